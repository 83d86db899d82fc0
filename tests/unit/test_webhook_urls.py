"""Which URLs are taken for webhooks, and why others are not."""

from collections.abc import Iterator

import pytest

from common import webhook_urls
from common.errors import InvalidRequest
from tests.process_settings import process_settings

NEEDED = {
    "DATABASE_URL": "postgresql://nowhere/none",
    "WEB_DATABASE_URL": "postgresql://nowhere/none",
    "REDIS_URL": "redis://nowhere",
    "STORAGE_URL": "file:///nowhere",
    "SECRET_KEY": "x" * 32,
    "PROVIDER_API_KEY": "none",
}
TAKEN = [
    "https://example.com",
    "https://example.com/hooks?source=batchyard&x=%20",
    "https://EXAMPLE.com:443/hooks",
    "https://example.com:8443/hooks",
    "https://xn--bcher-kva.example/hooks",
    "https://a_b.example.com./hooks",
    "https://8.8.8.8/hooks",
    "https://[2606:4700:4700::1111]/hooks",
]
# By the name of the failure.
REFUSED = {
    "refused_scheme": ["http://example.com", "ftp://example.com", "gopher://example.com:443/"],
    "refused_port": [
        "https://example.com:22",
        "https://example.com:8080/",
        "https://example.com:0/",
        "https://8.8.8.8:25",
    ],
    "refused_private_address": [
        "https://127.0.0.1/",
        "https://10.0.0.8:8443/",
        "https://169.254.169.254/latest/meta-data/",
        "https://100.64.0.1/",
        "https://0.0.0.0/",
        "https://255.255.255.255/",
        "https://[::1]/",
        "https://[::]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:7f00:1]/",
        "https://[64:ff9b::7f00:1]/",
        "https://[fe80::1]/",
        "https://[fd00:ec2::254]/",
        "https://[2002:7f00:1::]/",
        "https://2130706433/",
        "https://017700000001/",
        "https://0x7f000001/",
        "https://0x7f.1/",
        "https://0X7F.0.0.1/",
        "https://0177.0.0.1/",
        "https://127.1/",
        "https://127.0.1/",
        "https://127.0.0.1./",
        "https://8.8.8.8./",
        "https://1.2.3.4.5/",
        "https://256.1.1.1/",
        "https://0x/",
        "https://%31%32%37.0.0.1/",
    ],
    "refused_url": [
        "",
        "/hooks",
        "//example.com/hooks",
        "example.com/hooks",
        "https:///hooks",
        "https://",
        "https://localhost/",
        "https://metadata/",
        "https://user@example.com/",
        "https://user:password@example.com/",
        "https://@example.com/",
        "https://example.com@127.0.0.1/",
        "https://127.0.0.1\\@example.com/",
        "https://example.com\\.internal/",
        "https://example.com/#part",
        "https://example.com/#",
        "https://exam ple.com/",
        "https://example.com/a b",
        "https://example.com/\r\nHost: other",
        "https://example.com\x00/",
        "https://\uff11\uff12\uff17.0.0.1/",
        "https://127\u30020\u30020\u30021/",
        "https://\u24d4xample.com/",
        "file://example.com/x",
        "https://example..com/",
        "https://.example.com/",
        "https://[::1/",
        "https://[example.com]/",
        "https://[127.0.0.1]/",
        "https://example.com:https/",
        "https://example.com:99999/",
        "https://example.com/" + "a" * 2_000,
    ],
}


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    hosts = "hooks.internal, 10.0.0.7:9000,[::1]:9001"
    with process_settings({**NEEDED, "WEBHOOK_ALLOWED_HOSTS": hosts}):
        yield


@pytest.mark.parametrize("url", TAKEN)
def test_a_public_https_url_is_taken(url: str) -> None:
    webhook_urls.check(url)
    assert not webhook_urls.target(url).trusted


@pytest.mark.parametrize(("failure", "url"), [(failure, url) for failure, urls in REFUSED.items() for url in urls])
def test_any_other_is_refused_by_name_and_with_a_cure(failure: str, url: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        webhook_urls.check(url, "webhook_url")
    assert refused.value.code == failure
    assert refused.value.param == "webhook_url"
    assert refused.value.message.startswith("A webhook")


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.internal/",
        "https://hooks.internal:9999/",
        "http://HOOKS.internal.:80/",
        "http://10.0.0.7:9000/",
        "http://[::1]:9001/",
    ],
)
def test_the_operators_own_hosts_are_trusted(url: str) -> None:
    assert webhook_urls.target(url).trusted


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.7/",
        "http://10.0.0.7:9001/",
        "https://10.0.0.7/",
        "http://[::1]:9000/",
        "ftp://hooks.internal/",
        "http://hooks.internal.example.com/",
        "http://x.hooks.internal/",
        "http://hooks.internal@example.com/",
    ],
)
def test_nothing_beside_them_is(url: str) -> None:
    with pytest.raises(webhook_urls.Refused):
        webhook_urls.target(url)
