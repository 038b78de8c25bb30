"""No message about an address or a configuration shows a secret, however wrong it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsm_shipper.config import Config, load_config
from hsm_shipper.contract.redis_address import parse_url
from hsm_shipper.errors import ConfigError
from hsm_shipper.stream.connection import connect
from hsm_tools.aio import AsyncStreamReader
from hsm_tools.consumer import StreamReader
from hsm_tools.live_view import LiveView

SECRET = "s3cr3t"
MALFORMED = [
    f":{SECRET}@h:6379",
    f"{SECRET}:x@h",
    f"redis:/:{SECRET}@h/1",
    f"redis//:{SECRET}@h/1",
    f"http://me:{SECRET}@h/1",
    f"http://:{SECRET}",
    f"http://h/{SECRET}",
    f"redis://:{SECRET}",
    f"redis://h:{SECRET}",
    f"redis://:{SECRET}:h:6379",
    f"redis://:a/{SECRET}@h/1",
    f"redis://:1/{SECRET}@h/1",
    f"redis://:a?{SECRET}@h/1",
    f"redis://:1?{SECRET}=@h/1",
    f"redis://:1?password=1&{SECRET}=1@h",
    f"redis://:a#{SECRET}@h/1",
    f"redis://h:{SECRET}@h:x/1",
    f"redis://h@{SECRET}@h!/1",
    f"redis://:{SECRET}@h /1",
    f"redis://:{SECRET}%ff@h/1",
    f"redis://[{SECRET}/1",
    f"redis://h/{SECRET}",
    f"redis://h/1?{SECRET}",
    f"redis://h/1?password=a&{SECRET}=1",
    f"redis://h/1?password={SECRET}&foo=1",
    f"redis://h/1?db={SECRET}",
    f"redis://h/1?socket_timeout={SECRET}",
    f"redis://h/1?ssl_password={SECRET}",
    f"redis://h/1#{SECRET}",
    f"unix://:{SECRET}/run/s",
    f"unix://me:{SECRET}@/",
    f"unix:///s?password={SECRET}&db=x",
    f"http://u:x@{SECRET}?@h",
    f"redis://u:x@{SECRET}?username=@h",
    f"redis+sentinel://:{SECRET}@h1,:{SECRET}@h2/hsm",
    f"redis+sentinel://:{SECRET},x@h1!/hsm",
    f"redis+sentinel://h1,h2,{SECRET}:x/hsm",
    f"redis+sentinel://h1/:{SECRET}",
    f"redis+sentinel://:a/{SECRET}@h1/hsm",
    f"redis+sentinel://h1/hsm/{SECRET}",
    f"redis+sentinel://h1/hsm?sentinel_password={SECRET}&foo=1",
    f"redis+sentinel://h1/hsm?sentinel_password=a&{SECRET}=1",
    f"redis+cluster://h1,h2/{SECRET}",
    f"redis+cluster://:{SECRET}@h1,h2/1",
]


@pytest.mark.parametrize("url", MALFORMED)
def test_no_message_about_a_malformed_url_shows_a_secret(url: str, tmp_path: Path) -> None:
    file = tmp_path / "shipper.yaml"
    file.write_text(f"redis_url: '{url}'")
    for refused in (
        lambda: parse_url(url),
        lambda: load_config(file, {}),
        lambda: load_config(None, {"HSM_REDIS_URL": url}),
        lambda: connect(Config(redis_url=url), "key"),
        lambda: StreamReader(redis_url=url),
        lambda: AsyncStreamReader(redis_url=url),
        lambda: LiveView(redis_url=url),
        lambda: StreamReader.from_config(Config(redis_url=url)),
    ):
        with pytest.raises(ConfigError) as error:
            refused()
        assert SECRET not in str(error.value) and SECRET not in repr(error.value.__cause__)


JUNK = st.text("ab1:/?#@&=%[]+. ", max_size=8)


@given(
    st.sampled_from(["redis", "rediss", "unix", "http", "redis+sentinel", "rediss+cluster"]),
    *[JUNK] * 4,
)
def test_no_password_is_shown_however_it_is_written(scheme: str, user: str, before: str, after: str, tail: str) -> None:
    url = f"{scheme}://{user}:{before}{SECRET}{after}@host{tail}"
    try:
        told = repr(parse_url(url)) + str(parse_url(url))
    except ConfigError as error:
        told = str(error)
    assert SECRET not in told


@pytest.mark.parametrize(
    "text",
    [
        f"redis_url: [{SECRET}]",
        f"redis_url: 5 # {SECRET}\nredis_db: '{SECRET}@h'",
        f'redis_url: "redis://:{SECRET}@h',
        f"redis_url: redis://:{SECRET}@h: x",
        f"redis_password: *{SECRET}",
        f"redis_password: !{SECRET} x",
        f"redis_password: &{SECRET} x\na: &{SECRET} y\nb: [",
        f"redis_password: '{SECRET}'",
        f"password: {SECRET}",
        f"redis_pass: {SECRET}",
        f"redis_urls: redis://:{SECRET}@h",
        f"redis: {{password: {SECRET}}}",
        f"redis_hosts: ':{SECRET}@h'",
        f"redis_host: ':{SECRET}@h'",
        f"redis_host: redis://:{SECRET}@h",
        f"redis_host: [':{SECRET}@h']",
        f"redis_port: '{SECRET}@h'",
        f"redis_password_file: {SECRET}",
        f"redis_password_file: [{SECRET}]",
        f"redis_username: {{a: {SECRET}}}",
        f"'redis://:{SECRET}@h': 1",
        f"redis_url redis://:{SECRET}@h/1",
    ],
)
def test_no_message_about_a_configuration_shows_a_secret(text: str, tmp_path: Path) -> None:
    file = tmp_path / "shipper.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as refused:
        load_config(file, {})
    assert SECRET not in str(refused.value) and "\n" not in str(refused.value)


def test_where_a_file_is_no_yaml_is_told(tmp_path: Path) -> None:
    file = tmp_path / "shipper.yaml"
    file.write_text("poll_interval: 5\nredis_url: 'redis://\n")
    with pytest.raises(ConfigError, match=r"while scanning a quoted scalar: found unexpected end of stream \(line 3"):
        load_config(file, {})
