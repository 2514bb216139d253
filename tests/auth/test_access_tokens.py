"""Access tokens of users: which ones are believed, and that all others get the same answer."""

import base64
import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import freezegun
import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from api.auth.access_tokens import AccessTokens, InvalidToken
from api.composition import create_app
from tests.auth.key_server import KeyServer, SigningKey, key_server
from tests.calls import settings
from tests.in_process import client_of

SECRET = "the-legacy-secret-of-the-project-32-bytes"
KEY = SigningKey()
Forge = Callable[[KeyServer], str]


@pytest.fixture(scope="module")
def server() -> Iterator[KeyServer]:
    with key_server(KEY) as running:
        yield running


@pytest.fixture(scope="module")
def api(server: KeyServer) -> Iterator[httpx.Client]:
    """An API that believes the server's keys; no session test of it gets as far as a database."""
    app = create_app(settings(supabase_url=server.url, supabase_jwt_secret=SECRET))
    with client_of(app) as client:
        yield client


def ask(api: httpx.Client, token: str) -> httpx.Response:
    return api.get("/api/flags", headers={"Authorization": f"Bearer {token}"})


def hs256(server: KeyServer, **changes: Any) -> str:
    return jwt.encode(server.claims(**changes), SECRET, algorithm="HS256")


def raw(header: dict[str, Any] | bytes, claims: dict[str, Any], signature: bytes = b"") -> str:
    """A token put together by hand."""
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    parts = [head, json.dumps(claims).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


def signed_with_the_public_key(server: KeyServer) -> str:
    """The classic: an HS256 token whose secret is the public key that everybody can read."""
    pem = KEY.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    head, body = raw({"alg": "HS256", "typ": "JWT", "kid": KEY.id}, server.claims()).split(".")[:2]
    signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    digest = signature.sign(f"{head}.{body}".encode(), pem)
    return f"{head}.{body}." + base64.urlsafe_b64encode(digest).decode().rstrip("=")


BELIEVED: dict[str, Forge] = {
    "by key": lambda s: KEY.sign(s.claims()),
    "by secret": hs256,
    "audiences": lambda s: KEY.sign(s.claims(aud=["authenticated", "other"])),
    "begun": lambda s: KEY.sign(s.claims(nbf=int(time.time()) - 1)),
    "anonymous user": lambda s: KEY.sign(s.claims(is_anonymous=True, email="")),
}

REFUSED: dict[str, Forge] = {
    "expired": lambda s: KEY.sign(s.claims(exp=int(time.time()) - 60)),
    "without an end": lambda s: KEY.sign(s.claims(exp=None)),
    "endless": lambda s: KEY.sign(s.claims(exp="never")),
    "not yet valid": lambda s: KEY.sign(s.claims(nbf=int(time.time()) + 60)),
    "issued tomorrow": lambda s: KEY.sign(s.claims(iat=int(time.time()) + 86_400)),
    "of another project": lambda s: KEY.sign(s.claims(iss="https://other.supabase.co/auth/v1")),
    "of nobody": lambda s: KEY.sign(s.claims(iss=None)),
    "issuer with a slash": lambda s: KEY.sign(s.claims(iss=f"{s.url}/auth/v1/")),
    "for somebody else": lambda s: KEY.sign(s.claims(aud="anon")),
    "for nobody": lambda s: KEY.sign(s.claims(aud=None)),
    "service_role": lambda s: KEY.sign(s.claims(role="service_role")),
    "anon": lambda s: KEY.sign(s.claims(role="anon")),
    "no role": lambda s: KEY.sign(s.claims(role=None)),
    "roles": lambda s: KEY.sign(s.claims(role=["authenticated"])),
    "no subject": lambda s: KEY.sign(s.claims(sub=None)),
    "a name as subject": lambda s: KEY.sign(s.claims(sub="admin")),
    "another key": lambda s: SigningKey().sign(s.claims()),
    "another key under a known id": lambda s: SigningKey().sign(s.claims(), kid=KEY.id),
    "an id that does not exist": lambda s: KEY.sign(s.claims(), kid="unheard-of"),
    "an id that is no text": lambda s: raw({"alg": "ES256", "kid": 7}, s.claims(), b"x" * 64),
    "an id that is a list": lambda s: raw({"alg": "ES256", "kid": [KEY.id]}, s.claims(), b"x" * 64),
    "no id": lambda s: jwt.encode(s.claims(), KEY.private, algorithm="ES256"),
    "another algorithm for the key": lambda s: SigningKey("RS256").sign(s.claims(), kid=KEY.id),
    "alg none": lambda s: raw({"alg": "none", "typ": "JWT"}, s.claims()),
    "alg None with an id": lambda s: raw({"alg": "None", "kid": KEY.id}, s.claims()),
    "alg null": lambda s: raw({"alg": None, "kid": KEY.id}, s.claims()),
    "no alg": lambda s: raw({"kid": KEY.id}, s.claims()),
    "alg as a list": lambda s: raw({"alg": ["ES256"], "kid": KEY.id}, s.claims(), b"x" * 64),
    "HS256 with the public key": signed_with_the_public_key,
    "HS512": lambda s: jwt.encode(s.claims(), SECRET * 2, algorithm="HS512"),
    "another secret": lambda s: jwt.encode(s.claims(), SECRET + "x", algorithm="HS256"),
    "the secret of an expired token": lambda s: hs256(s, exp=1),
    "service_role by secret": lambda s: hs256(s, role="service_role"),
    "a changed signature": lambda s: KEY.sign(s.claims())[:-4] + "AAAA",
    "a changed claim": lambda s: ".".join(
        part if place != 1 else raw({}, s.claims()).split(".")[1]
        for place, part in enumerate(KEY.sign(s.claims()).split("."))
    ),
    "no signature": lambda s: KEY.sign(s.claims()).rpartition(".")[0] + ".",
    "unknown critical header": lambda s: KEY.sign(s.claims(), crit=["x"], x=1),
    "nested deep": lambda _: raw(b"[" * 5000, {}),
    "huge": lambda s: KEY.sign(s.claims(pad="x" * 20_000)),
    "not three parts": lambda _: "a.b",
    "four parts": lambda _: "a.b.c.d",
    "dots": lambda _: "..",
    "the secret itself": lambda _: SECRET,
    "JSON": lambda _: "{}",
}


@pytest.mark.parametrize("forge", BELIEVED.values(), ids=BELIEVED.keys())
def test_a_token_of_this_projects_user_is_believed(
    forge: Forge, api: httpx.Client, server: KeyServer
) -> None:
    assert ask(api, forge(server)).status_code == 200


@pytest.mark.parametrize("forge", REFUSED.values(), ids=REFUSED.keys())
def test_any_other_token_is_401_and_does_not_say_why(
    forge: Forge, api: httpx.Client, server: KeyServer
) -> None:
    answer = ask(api, forge(server))
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.content == ask(api, "nonsense").content


@pytest.mark.parametrize("algorithm", ["ES256", "RS256", "EdDSA"])
def test_each_algorithm_that_a_project_can_choose_works(algorithm: str) -> None:
    key = SigningKey(algorithm)
    with key_server(key) as server:
        tokens = AccessTokens(settings(supabase_url=server.url + "/"))
        user = uuid4()
        assert tokens.user_of(key.sign(server.claims(sub=str(user)))) == user
        with pytest.raises(InvalidToken):
            tokens.user_of(hs256(server))  # no secret is set


@pytest.mark.parametrize("secret", [None, "", "too-short-to-be-a-secret"])
def test_without_a_usable_secret_no_hs256_token_is_believed(secret: str | None, server: KeyServer) -> None:
    tokens = AccessTokens(settings(supabase_url=server.url, supabase_jwt_secret=secret))
    head, body = raw({"alg": "HS256"}, server.claims()).split(".")[:2]
    hmac = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    digest = hmac.sign(f"{head}.{body}".encode(), (secret or "").encode())
    with pytest.raises(InvalidToken):
        tokens.user_of(f"{head}.{body}." + base64.urlsafe_b64encode(digest).decode().rstrip("="))


def test_a_token_is_valid_from_nbf_to_exp_with_ten_seconds_of_leeway(server: KeyServer) -> None:
    begin = datetime(2026, 11, 20, 12, tzinfo=UTC)
    end = begin + timedelta(hours=1)
    claims = server.claims(nbf=begin.timestamp(), exp=end.timestamp(), iat=begin.timestamp())
    tokens = AccessTokens(settings(supabase_url=server.url, supabase_jwt_secret=SECRET))
    for token in (KEY.sign(claims), jwt.encode(claims, SECRET, algorithm="HS256")):
        for moment, valid in [
            (begin - timedelta(seconds=11), False),
            (begin - timedelta(seconds=10), True),
            (begin, True),
            (end, True),
            (end + timedelta(seconds=9), True),
            (end + timedelta(seconds=10), False),
        ]:
            with freezegun.freeze_time(moment, real_asyncio=True):
                if valid:
                    tokens.user_of(token)
                else:
                    with pytest.raises(InvalidToken):
                        tokens.user_of(token)


def test_a_token_without_a_configured_project_is_503() -> None:
    with client_of(create_app(settings())) as api:
        answer = ask(api, KEY.sign({"sub": str(uuid4())}))
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:lull:problem:not-configured")
        assert ask(api, "nonsense").status_code == 401


def test_the_issuer_can_be_another_than_the_projects_address(server: KeyServer) -> None:
    """A self-hosted Supabase, or a project with a custom domain, names itself otherwise."""
    issuer = "https://auth.example.com/auth/v1"
    with client_of(create_app(settings(supabase_url=server.url, supabase_jwt_issuer=f" {issuer} "))) as api:
        assert ask(api, KEY.sign(server.claims(iss=issuer))).status_code == 200
        assert ask(api, KEY.sign(server.claims())).status_code == 401
