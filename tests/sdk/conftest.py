"""The official clients, as their users make them: an address, a key, and nothing of ours inside."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager

import pytest
from openai import AsyncOpenAI, DefaultAsyncHttpxClient, DefaultHttpxClient, OpenAI

from local.stack import Stack
from tests.conftest import NewCustomer

NewSdk = Callable[..., OpenAI]
OpenAsyncSdk = Callable[[], AbstractAsyncContextManager[AsyncOpenAI]]


@pytest.fixture(scope="session")
def new_sdk(stack: Stack, new_customer: NewCustomer) -> Iterator[NewSdk]:
    """Makes an account and gives its client, which checks every answer against its types.

    With `of`, the client is another of that client's account; `path` is where the API begins.
    """
    with ExitStack() as opened:

        def make(*, path: str = "/v1", of: OpenAI | None = None) -> OpenAI:
            client = OpenAI(
                api_key=of.api_key if of else new_customer().key,
                base_url=stack.base_url + path,
                # A proxy named in the environment has no business between a test and its server.
                http_client=DefaultHttpxClient(trust_env=False),
                _strict_response_validation=True,
            )
            return opened.enter_context(client)

        yield make


@pytest.fixture(scope="session")
def sdk(new_sdk: NewSdk) -> OpenAI:
    """A client for tests that do not mind what others of its account submit."""
    return new_sdk()


@pytest.fixture
def open_async_sdk(stack: Stack, new_customer: NewCustomer) -> OpenAsyncSdk:
    """The asynchronous client of a new account, to be opened on the loop on which it is used."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[AsyncOpenAI]:
        async with AsyncOpenAI(
            api_key=new_customer().key,
            base_url=f"{stack.base_url}/v1",
            http_client=DefaultAsyncHttpxClient(trust_env=False),
            _strict_response_validation=True,
        ) as client:
            yield client

    return opened
