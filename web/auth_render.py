"""How people, their sessions and accounts look in the API's JSON."""

from uuid import UUID

from flask import Response, jsonify

from common import access_tokens, ids
from common.invitations import Invitation, Offer
from common.members import Member
from common.people import Membership, Person
from common.sessions import NewSession, Session
from web import auth_schemas
from web.render import unix


def mailed(email: str) -> tuple[Response, int]:
    """The one answer to all that has a mail sent, whether or not anybody has the address."""
    shown: auth_schemas.Mailed = {"object": "auth.mailed", "email": email}
    return jsonify(shown), 202


def done() -> Response:
    shown: auth_schemas.Done = {"object": "auth.done"}
    return jsonify(shown)


def tokens(session: NewSession) -> Response:
    """The answers that show a refresh token."""
    shown: auth_schemas.Tokens = {
        "object": "auth.tokens",
        "access_token": session.access_token,
        "token_type": "bearer",
        "expires_in": access_tokens.LIFE_SECONDS,
        "refresh_token": session.token,
        "session_id": ids.show("sess_", session.id),
        "session_expires_at": unix(session.expires_at),
    }
    return _not_stored(jsonify(shown))


def access_token(token: str) -> Response:
    shown: auth_schemas.AccessToken = {
        "object": "auth.access_token",
        "access_token": token,
        "token_type": "bearer",
        "expires_in": access_tokens.LIFE_SECONDS,
    }
    return _not_stored(jsonify(shown))


def _not_stored(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    return response


def person(found: Person) -> auth_schemas.Person:
    return {
        "id": found.shown_id,
        "object": "auth.person",
        "email": found.email,
        "email_verified": found.email_verified,
        "session_id": ids.show("sess_", found.session_id) if found.session_id is not None else None,
        "account_id": ids.show("acct_", found.account_id) if found.account_id is not None else None,
        "role": found.role,
        "scopes": list(found.scopes),
        "suspended": found.suspended,
    }


def account(found: Membership, chosen: UUID | None) -> auth_schemas.OwnAccount:
    return {
        "id": found.shown_id,
        "object": "auth.account",
        "name": found.name,
        "role": found.role,
        "chosen": found.account_id == chosen,
    }


def session(found: Session, current: UUID | None) -> auth_schemas.Session:
    return {
        "id": found.shown_id,
        "object": "auth.session",
        "kind": "page" if found.is_page else "api",
        "address": found.address,
        "created_at": unix(found.created_at),
        "expires_at": unix(found.expires_at),
        "current": found.id == current,
    }


def member(found: Member) -> auth_schemas.Member:
    return {
        "id": found.shown_id,
        "object": "auth.member",
        "email": found.email,
        "role": found.role,
        "created_at": unix(found.created_at),
    }


def invitation(found: Invitation) -> auth_schemas.Invitation:
    return {
        "id": found.shown_id,
        "object": "auth.invitation",
        "email": found.email,
        "role": found.role,
        "status": found.status,
        "created_at": unix(found.created_at),
        "expires_at": unix(found.expires_at),
    }


def offer(found: Offer) -> auth_schemas.Offer:
    return {
        "object": "auth.offer",
        "account_name": found.account_name,
        "email": found.email,
        "role": found.role,
        "known": found.known,
    }
