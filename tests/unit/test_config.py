"""The configuration: what loads, what is refused and how that is said, and the sample file."""

from __future__ import annotations

import re
import socket
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from hsm_shipper.config import KEYS, RETIRED_KEYS, Config, load_config
from hsm_shipper.errors import ConfigError
from hsm_shipper.redis_settings import FILE_KEYS

SAMPLE = Path(__file__).parents[2] / "deploy/hsm-shipper.yaml"


@pytest.fixture
def load(tmp_path: Path) -> Any:
    """Loads a configuration file with the given text, and the given environment."""

    def load(text: str, **environ: str) -> Any:
        file = tmp_path / "shipper.yaml"
        file.write_text(text)
        return load_config(file, environ)

    return load


def refusal(load: Any, text: str, **environ: str) -> str:
    with pytest.raises(ConfigError) as refused:
        load(text, **environ)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_every_key_is_optional(load: Any) -> None:
    assert load("").config == Config()
    assert load_config(None, {}).config == Config()


def test_what_the_command_writes_for_its_programs_is_read_without_yaml(
    load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)  # importing it fails
    config = Config(host="mds1", poll_interval_s=7.5)
    assert load(msgspec.json.encode(config).decode()).config == config


def test_defaults_are_the_familys() -> None:
    config = Config()
    assert config.mdt_watch_glob == "/sys/kernel/debug/lustre/mdt/*-MDT????/hsm/actions"
    assert (config.poll_interval_s, config.reconcile_interval_s, config.aggressive_trim_threshold) == (20, 21600, 5000)
    assert (config.redis_host, config.redis_port, config.redis_db) == ("localhost", 6379, 1)
    assert (config.redis_stream_prefix, config.include_raw) == ("hsm:actions", True)
    assert (config.state_dir, config.run_dir) == ("/var/lib/hsm-shipper", "/run/hsm-shipper")
    assert config.host == socket.gethostname()


def test_the_sample_file_has_every_key_and_says_the_defaults(load: Any) -> None:
    text = SAMPLE.read_text()
    assert load(text).config == Config()
    assert load(text).warnings == ()
    # With the optional ones taken out of their comments.
    lines = [line.removeprefix("# ") for line in text.splitlines()]
    optional = [line for line in lines if line.partition(":")[0] in KEYS]
    assert yaml.safe_load("\n".join(optional)).keys() == KEYS.keys()


def test_an_unknown_key_names_itself_its_value_and_the_nearest(load: Any) -> None:
    text = refusal(load, "pol_interval: 7")
    assert "shipper.yaml" in text and "'pol_interval'" in text and "7" in text and "'poll_interval'" in text


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("poll_interval", "soon"),
        ("poll_interval", "0"),
        ("poll_interval", "-3"),
        ("poll_interval", ".inf"),
        ("poll_interval", ".nan"),
        ("poll_interval", "yes"),
        ("aggressive_trim_threshold", "1.5"),
        ("redis_port", "65536"),
        ("redis_port", "'0x18eb'"),
        ("redis_db", "-1"),
        ("redis_host", "[a, b]"),
        ("include_raw", "'often'"),
        ("log_level", "LOUD"),
        ("redis_stream_prefix", "'hsm:*'"),
        ("redis_stream_prefix", "'{hsm}'"),
        ("redis_stream_prefix", "''"),
        ("mdt_watch_glob", "/proc/fs/lustre/mdt/*"),
        ("mdt_watch_glob", "sys/*/hsm/actions"),
        ("state_dir", "var/lib"),
        ("state_dir", "'/var/lib/my shipper'"),
        ("run_dir", "/run/50%"),
        ("run_dir", "/run/" + "long" * 20),
        ("log_file", "shipper.log"),
        ("redis_db", "2147483648"),
        ("host", "''"),
    ],
)
def test_a_value_that_cannot_be_used_is_named_with_its_key(load: Any, key: str, value: str) -> None:
    text = refusal(load, f"{key}: {value}")
    assert (key if key != "redis_stream_prefix" else "stream prefix") in text
    assert str(yaml.safe_load(value)) in text


@pytest.mark.parametrize("text", ["- a\n- b", "just text", "a: [", "\x00", "{1: 2}", "? [a]\n: 1"])
def test_a_file_that_is_no_mapping_of_keys_is_refused(load: Any, text: str) -> None:
    assert "shipper.yaml" in refusal(load, text)


def test_a_key_that_is_there_twice_is_said(load: Any) -> None:
    """Who edits the sample file above what it has would go on with localhost, and not know it."""
    loaded = load("redis_host: redis1\npoll_interval: 7\n\nredis_host: localhost\n")
    assert loaded.config == Config(poll_interval_s=7.0)
    (warning,) = loaded.warnings
    assert "shipper.yaml: redis_host stands in line 1 and again in line 4: the last one counts" in warning


def test_a_file_that_is_not_there_is_refused_if_it_was_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "none.yaml", {})


def test_the_environment_overrides_key_by_key(load: Any) -> None:
    loaded = load(
        "poll_interval: 7\nredis_db: 2",
        HSM_POLL_INTERVAL="2.5",
        HSM_INCLUDE_RAW="false",
        HSM_REDIS_PORT="7000",
        HSM_LOG_LEVEL="DEBUG",
        PATH="/bin",
    )
    config = loaded.config
    assert (config.poll_interval_s, config.redis_db, config.redis_port) == (2.5, 2, 7000)
    assert (config.include_raw, config.log_level, loaded.warnings) == (False, "DEBUG", ())


@pytest.mark.parametrize(
    ("key", "text"),
    [("POLL_INTERVAL", "7"), ("REDIS_PORT", "7000"), ("INCLUDE_RAW", "0"), ("HOST", "mds1"), ("LOG_FILE", "/l")],
)
def test_any_key_can_be_overridden(load: Any, key: str, text: str) -> None:
    assert load("", **{f"HSM_{key}": text}).config != Config()


def test_an_override_that_cannot_be_used_names_its_variable(load: Any) -> None:
    text = refusal(load, "", HSM_REDIS_PORT="many")
    assert "HSM_REDIS_PORT" in text and "'many'" in text


def test_an_unknown_variable_is_a_warning_with_the_nearest_key(load: Any) -> None:
    (warning,) = load("", HSM_REDIS_HOTS="a").warnings
    assert "HSM_REDIS_HOTS" in warning and "'redis_host'" in warning
    (warning,) = load("", HSM_redis_host="a").warnings
    assert "HSM_redis_host" in warning


@pytest.mark.parametrize("key", sorted(RETIRED_KEYS))
def test_keys_of_earlier_shippers_are_taken_and_change_nothing(load: Any, key: str) -> None:
    for loaded in (load(f"{key}: 1"), load("", **{f"HSM_{key.upper()}": "1"})):
        assert loaded.config == Config()
        (warning,) = loaded.warnings
        assert key in warning.lower() and "no use" in warning


@pytest.mark.parametrize(
    ("word", "level"),
    [("info", "INFO"), ("Debug", "DEBUG"), ("CRITICAL", "ERROR"), ("critical", "ERROR"), ("warn", "WARNING")],
)
def test_levels_of_earlier_files_are_taken(load: Any, word: str, level: str) -> None:
    for loaded in (load(f"log_level: {word}"), load("", HSM_LOG_LEVEL=word)):
        assert (loaded.config.log_level, loaded.warnings) == (level, ())


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("redis_port: '7000'", "redis_port", 7000),
        ("redis_db: '2'", "redis_db", 2),
        ("poll_interval: '7'", "poll_interval_s", 7.0),
        ("poll_interval: 1e1", "poll_interval_s", 10.0),  # text, to YAML
        ("reconcile_interval: '3600'", "reconcile_interval_s", 3600.0),
        ("aggressive_trim_threshold: '100'", "aggressive_trim_threshold", 100),
        ("aggressive_trim_threshold: 1000.0", "aggressive_trim_threshold", 1000),
    ],
)
def test_numbers_of_earlier_files_may_be_in_quotes(load: Any, text: str, key: str, value: float) -> None:
    loaded = load(text)
    assert (getattr(loaded.config, key), loaded.warnings) == (value, ())


@pytest.mark.parametrize("key", ["log_level", "redis_read_from"])
def test_a_word_that_is_none_of_a_key_is_told_which_are(load: Any, key: str) -> None:
    told = {"log_level": "DEBUG, INFO, WARNING, ERROR", "redis_read_from": "primary, replica"}
    assert refusal(load, f"{key}: LOUD").endswith(f"; it is one of {told[key]}")


def test_the_mountpoint_of_an_earlier_tail_is_taken(load: Any) -> None:
    for loaded in (load("mountpoint: /lustre"), load("", HSM_MOUNTPOINT="/lustre")):
        assert (loaded.mountpoint, loaded.config, loaded.warnings) == ("/lustre", Config(), ())
    assert load("").mountpoint is None
    assert "mountpoint: 5 cannot be used" in refusal(load, "mountpoint: 5")


EARLIER = """\
redis_host: "localhost"
redis_db: 1
redis_stream_name: "hsm:actions"
poll_interval: 20
heartbeat_interval: 21600
cache_path: "/var/cache/hsm-action-shipper/cache.json"
"""


@pytest.mark.parametrize("text", [EARLIER, EARLIER.replace("redis_stream_name", "redis_stream_prefix")])
def test_a_file_of_the_first_release_is_refused_as_one(load: Any, text: str) -> None:
    said = refusal(load, text)
    assert "is a key of release 0.1.0; files of 0.2 and later load" in said and "redis_stream_prefix" in said


def test_a_url_beside_a_host_is_said_to_win(load: Any) -> None:
    loaded = load("redis_url: redis://other/3\nredis_host: here")
    assert loaded.config.redis_url == "redis://other/3"
    assert "redis_url is set" in loaded.warnings[0]


@pytest.mark.parametrize("line", ['redis_url: "rediss://redis.example.org:6380/1"', 'reconcile_schedule: "30 2 * * *"'])
def test_one_line_of_the_sample_file_is_edited_and_nothing_is_to_be_said(load: Any, line: str) -> None:
    sample = (Path(__file__).parents[2] / "deploy/hsm-shipper.yaml").read_text()
    key = line.partition(":")[0]
    text, found = re.subn(rf"^(# )?{key}: .*$", line, sample, count=1, flags=re.MULTILINE)
    assert found and load(text).warnings == ()


def test_a_user_or_password_in_the_url_is_said_to_win(load: Any) -> None:
    loaded = load("redis_url: redis://me:s3cret@other\nredis_username: you\nredis_password_file: /password")
    assert loaded.warnings == (
        "redis_url names a username itself, so redis_username is not used",
        "redis_url names a password itself, so redis_password_file is not used",
    )
    assert load("redis_url: redis://other\nredis_username: you\nredis_password_file: /password").warnings == ()


def test_every_key_has_a_name_in_the_file_without_units() -> None:
    assert {field.encode_name for field in msgspec.structs.fields(Config)} == set(KEYS)
    assert not [key for key in KEYS if key.endswith("_s")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("redis_read_from: replica", "redis_read_from: 'replica' cannot be used with redis://localhost:6379/1"),
        ("redis_read_from: both", "redis_read_from"),
        ("redis_wait_replicas: -1", "redis_wait_replicas"),
        ("redis_wait_replicas: 1\nredis_wait_timeout: 15", "less than the time that any reply may take (15 s)"),
        ("redis_wait_fsync: true\nredis_wait_timeout: 0.0001", "redis_wait_timeout: 0.0001 cannot be used"),
        (
            "redis_wait_replicas: 1\nredis_url: redis://h?socket_timeout=2",
            "less than the time that any reply may take (2 s)",
        ),
        ("redis_tls_ca_file: ca.pem", "redis_tls_ca_file: 'ca.pem' is not absolute"),
    ],
)
def test_keys_of_redis_that_cannot_be_used(load: Any, text: str, said: str) -> None:
    assert said in refusal(load, text)


def test_keys_that_are_of_no_use_beside_a_url_are_said(load: Any) -> None:
    text = "redis_url: redis://h\nredis_sentinel_username: a\nredis_sentinel_password_file: /b\nredis_wait_timeout: 99"
    assert load(text).warnings == (
        "redis_url names no Sentinels, so redis_sentinel_username is not used",
        "redis_url names no Sentinels, so redis_sentinel_password_file is not used",
    )
    text = "redis_url: redis+sentinel://h/hsm?sentinel_username=a&read_from=replica\nredis_sentinel_username: b"
    assert load(text).warnings == ("redis_url names sentinel_username itself, so redis_sentinel_username is not used",)
    assert load(text).config.read_from == "replica"


def test_waiting_is_read_from_the_environment_as_well() -> None:
    environ = {"HSM_REDIS_WAIT_REPLICAS": "2", "HSM_REDIS_WAIT_FSYNC": "true", "HSM_REDIS_WAIT_TIMEOUT": "1.5"}
    config = load_config(None, environ).config
    assert (config.redis_wait_replicas, config.redis_wait_fsync, config.redis_wait_timeout_s) == (2, True, 1.5)


@pytest.mark.parametrize("key", ["redis_username", "redis_sentinel_username"])
def test_a_user_whose_name_cannot_be_sent_is_refused(load: Any, key: str) -> None:
    url = "redis_url: redis+sentinel://h/hsm\n"
    for refused in ("me\udcff", "\ud800"):
        assert f"{key}: what it holds is no UTF-8" in refusal(load, url, **{f"HSM_{key.upper()}": refused})
    assert getattr(load(url, **{f"HSM_{key.upper()}": "bücher😀"}).config, key) == "bücher😀"


@pytest.mark.parametrize("key", FILE_KEYS)
def test_a_path_that_cannot_be_handed_to_the_programs_is_refused(load: Any, key: str) -> None:
    url = "redis_url: rediss+sentinel://h/hsm\n"
    for refused in ("/etc/caf\udce9", "/etc/\0"):
        assert f"{key}: " in refusal(load, url, **{f"HSM_{key.upper()}": refused})
    config = load(url, **{f"HSM_{key.upper()}": "/etc/café"}).config
    assert msgspec.json.decode(msgspec.json.encode(config))[key] == "/etc/café"
