"""The JSON of people, their sessions and accounts. As web/schemas.py."""

from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from common.roles import ROLES
from web.schemas import UnixSeconds, id_like, one_of

UserId = Annotated[str, id_like("user_")]
SessionId = Annotated[str, id_like("sess_")]
InvitationId = Annotated[str, id_like("inv_")]
AccountId = Annotated[str, id_like("acct_")]
Role = Annotated[str, one_of(*ROLES)]


class Mailed(TypedDict):
    """A mail is on its way to the address, whatever it says."""

    object: Annotated[str, one_of("auth.mailed")]
    email: str


class Done(TypedDict):
    """It is done."""

    object: Annotated[str, one_of("auth.done")]


class AccessToken(TypedDict):
    """What the next requests are sent with, as `Authorization: Bearer`."""

    object: Annotated[str, one_of("auth.access_token", "auth.tokens")]
    access_token: str
    token_type: Annotated[str, one_of("bearer")]
    expires_in: Annotated[int, Field(ge=1, description="Seconds.")]


class Tokens(AccessToken):
    """A session. Its refresh token is used once, for the next one; used again it ends the session."""

    refresh_token: str
    session_id: SessionId
    session_expires_at: UnixSeconds


class OwnAccount(TypedDict):
    """An account that the person is a member of. `chosen` is the one that they work in."""

    id: AccountId
    object: Annotated[str, one_of("auth.account")]
    name: str
    role: Role
    chosen: bool


class OwnAccounts(TypedDict):
    """All of them."""

    object: Annotated[str, one_of("list")]
    data: list[OwnAccount]


class Person(TypedDict):
    """Who the access token is of, and what they may do in the account that they work in."""

    id: UserId
    object: Annotated[str, one_of("auth.person")]
    email: str
    email_verified: bool
    session_id: SessionId | None
    account_id: AccountId | None
    role: Role | None
    scopes: list[str]
    suspended: bool


class Session(TypedDict):
    """Where the person is logged in: a browser's pages, or a program by the JSON API."""

    id: SessionId
    object: Annotated[str, one_of("auth.session")]
    kind: Annotated[str, one_of("page", "api")]
    address: str
    created_at: UnixSeconds
    expires_at: UnixSeconds
    current: bool


class Sessions(TypedDict):
    """The newest, newest first."""

    object: Annotated[str, one_of("list")]
    data: list[Session]


class Member(TypedDict):
    """A person of the account."""

    id: UserId
    object: Annotated[str, one_of("auth.member")]
    email: str
    role: Role
    created_at: UnixSeconds


class Invitation(TypedDict):
    """An invitation to the account."""

    id: InvitationId
    object: Annotated[str, one_of("auth.invitation")]
    email: str
    role: Role
    status: Annotated[str, one_of("pending", "accepted", "revoked", "expired")]
    created_at: UnixSeconds
    expires_at: UnixSeconds


class Offer(TypedDict):
    """What an invitation's link offers. Who is `known` accepts it logged in; another chooses a password."""

    object: Annotated[str, one_of("auth.offer")]
    account_name: str
    email: str
    role: Role
    known: bool
