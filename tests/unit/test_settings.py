"""Settings are read once, and a program with a bad one does not start."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from common.settings import Settings, settings
from tests.process_settings import process_settings

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / ".env.example"
COMPOSE = ROOT / "docker-compose.yml"
NAMES = [name.upper() for name in Settings.model_fields]
REQUIRED = [name.upper() for name, field in Settings.model_fields.items() if field.is_required()]

# In every value that could hold a secret; it may not come out again.
SECRET = "hunter2"
GOOD = {
    "DATABASE_URL": f"postgresql://owner:{SECRET}@127.0.0.1:9/none",
    "WEB_DATABASE_URL": f"postgresql://batchyard_web:{SECRET}@127.0.0.1:9/none",
    "REDIS_URL": f"redis://:{SECRET}@127.0.0.1:9/0",
    "STORAGE_URL": "file:///tmp",
    "SECRET_KEY": SECRET * 5,
    "PROVIDER_API_KEY": SECRET,
}
PROGRAMS = {
    "web": ["-m", "gunicorn", "-c", "web/gunicorn.py", "--bind", "127.0.0.1:0", "wsgi:app"],
    "worker": ["worker.py"],
    "migrations": ["-m", "migrations"],
    "command line": ["-m", "flask", "--app", "wsgi", "accounts", "list"],
}


Ended = subprocess.CompletedProcess[str]


def run(program: str, env: dict[str, str]) -> Ended:
    kept = {name: value for name, value in os.environ.items() if name not in NAMES}
    return subprocess.run(
        [sys.executable, *PROGRAMS[program]], cwd=ROOT, env=kept | env, capture_output=True, text=True, timeout=60
    )


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Future[Ended]]]:
    """Each program with settings of which one is missing and two are malformed, and a worker with bad prices: started
    together, for they take their time to start."""
    bad = GOOD | {"REDIS_URL": f"http://:{SECRET}@127.0.0.1:9", "WEB_REQUESTS_AT_ONCE": "many"}
    del bad["DATABASE_URL"]
    prices = tmp_path_factory.mktemp("prices") / "prices.toml"
    prices.write_text('["gpt-x"]\nprompt = 0.15\ncompletion = "0.60"\n')
    with ThreadPoolExecutor() as threads:
        ended = {program: threads.submit(run, program, bad) for program in PROGRAMS}
        yield ended | {"bad prices": threads.submit(run, "worker", GOOD | {"PRICES_FILE": str(prices)})}


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_stops_and_names_what_is_missing_and_what_is_malformed(
    program: str, started: Mapping[str, Future[Ended]]
) -> None:
    done = started[program].result()
    assert done.returncode == 2
    assert "setting DATABASE_URL: is not set" in done.stderr
    assert "setting REDIS_URL:" in done.stderr
    assert "setting WEB_REQUESTS_AT_ONCE:" in done.stderr
    assert "SECRET_KEY" not in done.stderr
    assert SECRET not in done.stdout + done.stderr


def test_a_worker_with_a_price_file_it_cannot_read_stops_and_names_it(started: Mapping[str, Future[Ended]]) -> None:
    done = started["bad prices"].result()
    assert done.returncode == 2
    assert "PRICES_FILE" in done.stderr
    assert "[gpt-x] prompt" in done.stderr
    assert SECRET not in done.stdout + done.stderr


@pytest.mark.parametrize("missing", REQUIRED)
def test_each_required_setting_is_named_when_it_is_missing(missing: str, capsys: pytest.CaptureFixture[str]) -> None:
    with process_settings({name: value for name, value in GOOD.items() if name != missing}):
        with pytest.raises(SystemExit) as stopped:
            settings()
        assert stopped.value.code == 2
    assert capsys.readouterr().err == f"setting {missing}: is not set (see .env.example)\n"


@pytest.mark.parametrize("empty", REQUIRED)
def test_an_empty_setting_is_one_that_is_missing(empty: str, capsys: pytest.CaptureFixture[str]) -> None:
    with process_settings(GOOD | {empty: ""}), pytest.raises(SystemExit):
        settings()
    assert f"setting {empty}: is not set" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", f"mysql://root:{SECRET}@localhost/x"),
        ("DATABASE_URL", f"postgresql://owner:{SECRET}@localhost:port/x"),
        ("DATABASE_URL", f"postgresql://owner:a/{SECRET}@localhost:5432/x"),
        ("WEB_DATABASE_URL", f"{SECRET}"),
        ("WEB_DATABASE_URL", f"postgresql://owner:{SECRET}@localhost:99999/x"),
        ("REDIS_URL", f"http://:{SECRET}@localhost"),
        ("REDIS_URL", f"redis://:{SECRET}@localhost:six/0"),
        ("STRIPE_SECRET_KEY", SECRET),
        ("STRIPE_WEBHOOK_SECRET", SECRET),
        ("STRIPE_API_BASE", f"ftp://{SECRET}"),
        ("BATCHYARD_ENV", "staging"),
        ("STORAGE_URL", "/var/files"),
        ("STORAGE_URL", "file://relative"),
        ("SECRET_KEY", SECRET),
        ("PROVIDER_URL", "api.openai.com/v1"),
        ("PROVIDER_URL", "http://localhost:port/v1"),
        ("CALL_TIMEOUT_SECONDS", "0"),
        ("CALL_TIMEOUT_SECONDS", "soon"),
        ("CALL_ATTEMPTS", "0"),
        ("WORKER_CONCURRENCY", "0"),
        ("WORKER_CONCURRENCY", "4097"),
        ("WEBHOOK_ALLOWED_HOSTS", "http://hunter2"),
        ("WEBHOOK_ALLOWED_HOSTS", "localhost,hunter2:65536"),
        ("PUBLIC_URL", "batches.example"),
        ("WEBHOOK_PORTS", "443,hunter2"),
        ("MAIL_FROM", "hunter2"),
        ("MAIL_FROM", "Hunter <hunter2@example.com>, eve@example.com"),
        ("SMTP_URL", f"http://user:{SECRET}@localhost"),
        ("SMTP_URL", f"smtps://user:a/{SECRET}@localhost"),
        ("SMTP_URL", f"smtps://user:{SECRET}@localhost:mail"),
        ("SMTP_URL", f"smtp://user:{SECRET}@mail.example.com"),
        ("SMTP_URL", f"smtps://user:{SECRET}@localhost?starttls=1"),
        ("SMTP_URL", f"smtp://user:{SECRET}@localhost?tls={SECRET}"),
        ("SMTP_URL", f"smtps://user:{SECRET}@localhost"),
        ("OIDC_ISSUER", "https://hunter2.example.com"),
        ("OIDC_JWKS_URL", "https://hunter2.example.com/keys"),
        ("OIDC_SHARED_SECRET", SECRET * 5),
        ("OIDC_SHARED_SECRET", SECRET),
        ("PORT", "0"),
        ("PORT", "65536"),
        ("WEB_PROCESSES", "0"),
        ("WEB_REQUESTS_AT_ONCE", "1"),
        ("MAX_BODY_BYTES", "1e6"),
        ("MAX_UPLOAD_BYTES", "-1"),
        ("LOG_LEVEL", "LOUD"),
    ],
)
def test_a_malformed_setting_is_named_without_its_value(
    name: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with process_settings(GOOD | {name: value}):
        with pytest.raises(SystemExit) as stopped:
            settings()
        assert stopped.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith(f"setting {name}: ")
    assert told.count("\n") == 1
    assert SECRET not in told


@pytest.mark.parametrize(("environment", "key"), [("development", "sk_live_"), ("production", "rk_test_")])
def test_a_key_of_stripe_is_refused_in_the_other_environment_and_both_are_named(
    environment: str, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with process_settings(GOOD | {"BATCHYARD_ENV": environment, "STRIPE_SECRET_KEY": key + SECRET}):
        with pytest.raises(SystemExit) as stopped:
            settings()
        assert stopped.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("setting STRIPE_SECRET_KEY: ")
    assert f"BATCHYARD_ENV is {environment}" in told
    assert SECRET not in told


@pytest.mark.parametrize(("environment", "key"), [("development", "sk_test_"), ("production", "sk_live_")])
def test_a_key_of_stripe_is_taken_in_its_own_environment(environment: str, key: str) -> None:
    with process_settings(GOOD | {"BATCHYARD_ENV": environment, "STRIPE_SECRET_KEY": key + SECRET}):
        assert settings().stripe_secret_key is not None
        assert key + SECRET not in repr(settings())


def test_a_live_key_is_sent_to_stripe_alone(capsys: pytest.CaptureFixture[str]) -> None:
    live = {"BATCHYARD_ENV": "production", "STRIPE_SECRET_KEY": "sk_live_" + SECRET}
    with process_settings(GOOD | live | {"STRIPE_API_BASE": "http://127.0.0.1:9"}), pytest.raises(SystemExit):
        settings()
    assert "STRIPE_API_BASE" in capsys.readouterr().err


OIDC = {"OIDC_AUDIENCE": "batchyard", "OIDC_ISSUER": "https://id.example.com"}


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"OIDC_ISSUER": "id.example.com", "OIDC_AUDIENCE": "batchyard"}, "OIDC_ISSUER"),
        (OIDC | {"OIDC_JWKS_URL": "file:///etc/passwd"}, "OIDC_JWKS_URL"),
        (OIDC | {"OIDC_SHARED_SECRET": "too short"}, "OIDC_SHARED_SECRET"),
        (OIDC | {"OIDC_JWKS_URL": "https://id.example.com/keys", "OIDC_SHARED_SECRET": "x" * 32}, "OIDC_SHARED_SECRET"),
    ],
)
def test_an_identity_provider_that_could_not_be_checked_stops_the_program(
    given: dict[str, str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with process_settings(GOOD | given), pytest.raises(SystemExit):
        settings()
    assert capsys.readouterr().err.startswith(f"setting {named}: ")


def test_secrets_are_not_in_what_the_settings_look_like() -> None:
    with process_settings(GOOD):
        shown = repr(settings())
    assert GOOD["SECRET_KEY"] not in shown
    assert f"provider_api_key='{SECRET}'" not in shown


def _examples() -> dict[str, tuple[str, str]]:
    """Each setting of .env.example with its sentence and its example."""
    first, *blocks = EXAMPLE.read_text().strip().split("\n\n")
    assert re.fullmatch(r"# .*\.", first), "the file begins with a sentence about itself"
    examples = {}
    for block in blocks:
        match = re.fullmatch(r"# ([A-Z].*)\n([A-Z_]+)=(.*)", block)
        assert match, f"not one sentence and one setting:\n{block}"
        assert match[2] not in examples
        examples[match[2]] = (match[1], match[3])
    return examples


def test_env_example_lists_every_setting_once_in_order_and_nothing_else() -> None:
    assert list(_examples()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_env_example_says_a_sentence_about_each_setting(name: str) -> None:
    sentence, _ = _examples()[name]
    assert sentence.endswith((".", ")."))
    assert len(sentence.split()) >= 5


def test_the_examples_are_settings_that_hold_but_for_the_secret_that_each_installation_makes() -> None:
    examples = {name: example for name, (_, example) in _examples().items()}
    assert examples.pop("SECRET_KEY") == ""
    with process_settings(examples | {"SECRET_KEY": "x" * 32}):
        assert settings().port == 8000


def test_the_examples_of_optional_settings_are_their_defaults() -> None:
    for name, (_, example) in _examples().items():
        default = Settings.model_fields[name.lower()].get_default()
        if isinstance(default, (int, float, str)):
            assert str(default) == example, name


def _composed() -> dict[str, str]:
    """What docker-compose.yml gives its processes for each name in their environment."""
    _, found, settings_on = COMPOSE.read_text().partition("  environment: &settings\n")
    assert found
    return dict(re.findall(r"^    ([A-Z_]+):(.*)$", settings_on.partition("\n  volumes:")[0], re.MULTILINE))


def test_docker_compose_hands_every_setting_to_its_processes_and_nothing_else_but_for_the_bucket() -> None:
    assert sorted(name for name in _composed() if not name.startswith("AWS_")) == sorted(NAMES)


def test_what_docker_compose_gives_where_env_says_nothing_is_the_default() -> None:
    simulated = {"PROVIDER_URL", "PROVIDER_API_KEY"}
    inside_the_containers = {"STORAGE_URL"}
    for name, value in _composed().items():
        given = re.fullmatch(rf" \$\{{{name}:-(.*)\}}", value)
        if given is None or name in simulated | inside_the_containers:
            continue
        default = Settings.model_fields[name.lower()].get_default()
        assert given[1] in ("", "" if default is None else str(default)), name
