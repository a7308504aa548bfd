"""What a reload changes, and what it leaves to a restart."""

from typing import Any

import msgspec

from mlx_serve_common.config import Config, conflicts
from mlx_serve_common.reloading import RELOADABLE, Reload, reloadable, value_of
from mlx_serve_common.settings import KEYS

OLD = Config()


def configured(**sections: dict[str, Any]) -> Config:
    return msgspec.convert(sections, Config)


def test_nothing_changes() -> None:
    assert reloadable(OLD, Config()) == Reload(OLD, (), ())


def test_what_can_change_does_and_the_rest_is_named() -> None:
    new = configured(
        server={"port": 9000, "admin_key": "0123456789"},
        cache={"ttl_seconds": 60},
        logging={"level": "DEBUG"},
    )
    decided = reloadable(OLD, new)
    assert decided.applied == ("server.admin_key", "cache.ttl_seconds", "logging.level")
    assert decided.needs_restart == ("server.port",)
    assert decided.config == configured(
        server={"admin_key": "0123456789"}, cache={"ttl_seconds": 60}, logging={"level": "DEBUG"}
    )
    assert reloadable(decided.config, new) == Reload(decided.config, (), ("server.port",))


def test_no_value_is_told() -> None:
    decided = reloadable(OLD, configured(server={"admin_key": "5ecret-5ecret"}))
    assert "5ecret" not in repr((decided.applied, decided.needs_restart))


def test_every_reloadable_key_exists() -> None:
    assert set(KEYS) >= RELOADABLE
    assert value_of(OLD, "cache.ttl_seconds") == 1800


def test_a_mix_of_old_and_new_cannot_contradict_itself() -> None:
    """Keys that are checked against each other change together or not at all."""
    wrong = (
        configured(metrics={"port": 8000}),
        configured(limits={"max_inputs": 2, "max_queue_items": 1}),
    )
    for config in wrong:
        for names, _ in conflicts(config):
            assert len({name in RELOADABLE for name in names}) == 1
