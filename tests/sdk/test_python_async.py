"""Every method through the official asynchronous Python client."""

import asyncio
import json
from pathlib import Path

import pytest
from openai import APIStatusError, AsyncOpenAI, ConflictError, NotFoundError
from openai.types import Batch

from tests.sdk.conftest import OpenAsyncSdk
from tests.sdk.work import CHAT, ENDED, ENDLESS, custom_ids, jsonl, requests

SECONDS = 60


async def submit(sdk: AsyncOpenAI, models: list[str]) -> Batch:
    file = await sdk.files.create(file=("input.jsonl", jsonl(requests(models))), purpose="batch")
    return await sdk.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")


async def ended(sdk: AsyncOpenAI, batch: Batch) -> Batch:
    async with asyncio.timeout(SECONDS):
        while batch.status not in ENDED:
            # Between two looks, under a deadline.
            await asyncio.sleep(0.05)
            batch = await sdk.batches.retrieve(batch.id)
    return batch


def test_every_method_of_files_works(open_async_sdk: OpenAsyncSdk, tmp_path: Path) -> None:
    content = jsonl(requests(["sim"] * 3))

    async def scenario() -> None:
        async with open_async_sdk() as sdk:
            path = tmp_path / "input.jsonl"
            path.write_bytes(content)
            files = [await sdk.files.create(file=path, purpose="batch") for _ in range(5)]
            newest_first = [file.id for file in files][::-1]
            assert [file.id async for file in sdk.files.list(limit=2)] == newest_first
            assert [file.id async for file in sdk.files.list(limit=2, order="asc")] == newest_first[::-1]
            assert await sdk.files.retrieve(files[0].id) == files[0]
            assert await sdk.files.wait_for_processing(files[0].id) == files[0]
            assert (await sdk.files.content(files[0].id)).content == content
            async with sdk.files.with_streaming_response.content(files[0].id) as response:
                assert b"".join([piece async for piece in response.iter_bytes(100)]) == content
            raw = await sdk.files.with_raw_response.retrieve(files[0].id)
            assert raw.parse() == files[0]
            assert (await sdk.files.delete(files[0].id)).deleted is True
            with pytest.raises(NotFoundError):
                await sdk.files.retrieve(files[0].id)

    asyncio.run(scenario())


def test_every_method_of_batches_works(open_async_sdk: OpenAsyncSdk) -> None:
    async def scenario() -> None:
        async with open_async_sdk() as sdk:
            submitted = await asyncio.gather(*(submit(sdk, ["sim", "sim-400", "sim"]) for _ in range(5)))
            batches = await asyncio.gather(*(ended(sdk, batch) for batch in submitted))
            assert {batch.status for batch in batches} == {"completed"}
            listed = [batch.id async for batch in sdk.batches.list(limit=2)]
            assert sorted(listed) == sorted(batch.id for batch in batches)
            for batch in batches:
                assert batch.output_file_id is not None
                output = (await sdk.files.content(batch.output_file_id)).text
                assert custom_ids([json.loads(line) for line in output.splitlines()]) == ["row-0", "row-2"]
            with pytest.raises(ConflictError):
                await sdk.batches.cancel(batches[0].id)

            endless = await submit(sdk, [ENDLESS] * 3)
            await sdk.batches.cancel(endless.id)
            assert (await ended(sdk, endless)).status == "cancelled"

    asyncio.run(scenario())


def test_every_method_of_models_works(open_async_sdk: OpenAsyncSdk) -> None:
    async def scenario() -> None:
        async with open_async_sdk() as sdk:
            async with asyncio.timeout(SECONDS):
                while "sim" not in [model.id async for model in sdk.models.list()]:
                    # Between two looks, under a deadline: the worker asks for the models once it runs.
                    await asyncio.sleep(0.05)
            assert (await sdk.models.retrieve("sim")).id == "sim"
            with pytest.raises(APIStatusError):
                await sdk.models.delete("sim")

    asyncio.run(scenario())
