"""How a service was started is known to the next one: options were lost when the whole cluster was started anew."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from perdure import HeadOptions, StoreMisuse, open_store
from perdure.actors.options import SETTING, keep_options, read_options
from perdure.actors.settings import ServiceSettings
from perdure.stores.config import StoreConfig
from tests.actors.services import eventually, service


def settings(**options: Any) -> ServiceSettings:
    return ServiceSettings(store=StoreConfig(url="memory://"), **options)


def test_only_what_was_chosen_is_kept_and_a_default_given_by_name_ends_that() -> None:
    with open_store("memory://") as store:
        assert read_options(store) == {}
        keep_options(store, settings(lease=timedelta(seconds=2.5), max_actors=3, idle=timedelta(seconds=1)))
        assert read_options(store) == {"lease": timedelta(seconds=2.5), "max_actors": 3}
        keep_options(store, settings(lease=timedelta(seconds=30), max_actors=3))
        assert read_options(store) == {"max_actors": 3}
        keep_options(store, settings())
        assert store.setting(SETTING) is None


@pytest.mark.parametrize("data", [[], "many", {"shards": "two"}, {"spares": True}])
def test_what_is_no_option_is_refused(data: Any) -> None:
    with open_store("memory://") as store:
        store.put_setting(SETTING, data)
        with pytest.raises(StoreMisuse, match="'service'"):
            read_options(store)


def test_what_a_newer_version_has_chosen_is_left_out() -> None:
    with open_store("memory://") as store:
        store.put_setting(SETTING, {"colour": "red", "shards": 2})
        assert read_options(store) == {"shards": 2}


def test_a_service_that_is_started_anew_runs_as_the_last_one(member: HeadOptions, tmp_path: Path) -> None:
    path = tmp_path / "kept.db"
    with service(member, path, max_actors=3, spares=0, cancel_grace=timedelta(seconds=2)) as client:
        eventually(lambda: read_options(client.store), what="the options")
    with service(member, path, spares=2) as client:
        (running,) = client._supervisors.ask("settings")
        assert (running.max_actors, running.spares, running.cancel_grace) == (3, 2, timedelta(seconds=2))
