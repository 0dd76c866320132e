"""The machine's time zone as the schedule has it: by TZ as the C library reads it, else by
/etc/localtime."""

import subprocess
import sys
import zoneinfo
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import yaml
from prefect.schedules import Cron

from pipeline.core.errors import UserError
from pipeline.flow import schedule, time_zone

ROOT = Path(__file__).resolve().parents[2]
SUMMER = datetime(2026, 7, 1, 12)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A zoneinfo folder with copies of two zones, plain and as some systems nest them."""
    for place in ("zoneinfo", "zoneinfo.default", "zoneinfo/posix", "zoneinfo/right"):
        for name in ("Europe/Berlin", "America/Argentina/Ushuaia"):
            copy = tmp_path / place / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(b"TZif2")
    return tmp_path


def zone(
    tz: str | None, monkeypatch: pytest.MonkeyPatch, link: Path | None = None
) -> time_zone.Zone:
    monkeypatch.delenv("TZ", raising=False)
    if tz is not None:
        monkeypatch.setenv("TZ", tz)
    if link is not None:
        monkeypatch.setattr(time_zone, "_LINK", link)
    return time_zone.machine_zone()


@pytest.mark.parametrize(
    "name", ["Europe/Berlin", "America/Argentina/Ushuaia", "UTC", "EST5EDT", "Etc/GMT+5", "GMT0"]
)
@pytest.mark.parametrize("colon", ["", ":"])
def test_an_iana_name_is_taken(name: str, colon: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert zone(colon + name, monkeypatch) == (name, "")


@pytest.mark.parametrize(
    "place", ["zoneinfo", "zoneinfo.default", "zoneinfo/posix", "zoneinfo/right"]
)
@pytest.mark.parametrize("name", ["Europe/Berlin", "America/Argentina/Ushuaia"])
@pytest.mark.parametrize("colon", ["", ":"])
def test_a_path_under_zoneinfo_is_the_zone_that_it_names(
    place: str, name: str, colon: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert zone(f"{colon}{folder / place / name}", monkeypatch) == (name, "")
    (folder / "link").symlink_to(folder / place / name)
    assert zone(f"{colon}{folder / 'link'}", monkeypatch) == (name, "")


@pytest.mark.parametrize("place", ["zoneinfo", "zoneinfo.default"])
@pytest.mark.parametrize("tz", [None, "{link}", ":{link}"])
def test_localtime_is_the_zone_that_it_links_to(
    tz: str | None, place: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = folder / "localtime"
    link.symlink_to(folder / place / "Europe" / "Berlin")
    assert zone(tz and tz.format(link=link), monkeypatch, link) == ("Europe/Berlin", "")


def test_an_empty_tz_is_utc_as_in_the_c_library(monkeypatch: pytest.MonkeyPatch) -> None:
    assert zone("", monkeypatch) == ("UTC", "")


@pytest.mark.parametrize(
    "tz",
    [
        "CET-1CEST,M3.5.0,M10.5.0/3",
        "UTC0",
        "Nowhere/Place",
        "europe/berlin ",
        "Europe",
        "../../etc/passwd",
        "/etc/passwd",
        "/nowhere/zoneinfo/Nowhere/Place",
        "/tmp",
        ":",
        "localtime",
        "posixrules",
        "Euro\x1bpe",
        "x" * 5000,
    ],
)
def test_an_unknown_zone_becomes_utc_with_a_line_that_says_why(
    tz: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, problem = zone(tz, monkeypatch)
    assert name == "UTC"
    assert problem.startswith("TZ=")
    assert "UTC is used" in problem
    assert problem.isprintable()


def test_a_loop_of_links_is_utc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "zoneinfo").symlink_to("zoneinfo")
    assert zone(str(tmp_path / "zoneinfo"), monkeypatch).name == "UTC"


@pytest.mark.parametrize(
    "name", sorted(zoneinfo.available_timezones() - {"localtime", "Factory"})[::25]
)
def test_prefect_accepts_every_zone_name_that_is_accepted(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert zone(name, monkeypatch).name == name
    assert Cron("0 3 * * *", timezone=name).timezone == name


@pytest.mark.parametrize(
    "tz",
    ["Europe/Berlin", "/usr/share/zoneinfo/Europe/Berlin", ":/usr/share/zoneinfo/Asia/Kolkata"],
)
def test_the_zone_has_the_offset_of_the_c_library(tz: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if tz.strip(":").startswith("/") and not Path(tz.strip(":")).exists():
        pytest.skip("no zone files of the system's")
    ask = f"import time; print(time.localtime({SUMMER.timestamp()}).tm_gmtoff)"
    shown = subprocess.run(
        [sys.executable, "-c", ask], env={"TZ": tz}, capture_output=True, text=True, check=True
    )
    offset = SUMMER.replace(tzinfo=ZoneInfo(zone(tz, monkeypatch).name)).utcoffset()
    assert offset is not None
    assert offset.total_seconds() == int(shown.stdout)


def test_the_schedule_says_which_zone_and_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    terms = schedule.terms("0 3 * * *", None, False, "60", None)
    assert terms.words == "cron '0 3 * * *' in UTC"
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "seqline: warning: TZ=CET-1CEST,M3.5.0,M10.5.0/3, which is no IANA name; UTC is used."
    )


@pytest.mark.parametrize(
    "line", ["0 0 30 2 *", "0 0 31 4,6 *", "r 3 * * *", "61 * * * *", "0 3 * *", "0 3 * * * * * *"]
)
def test_a_cron_line_without_a_time_is_refused(line: str) -> None:
    with pytest.raises(UserError, match="--cron: got "):
        schedule.terms(line, None, False, "60", None)


def test_prefect_accepts_the_zone_and_the_cron_line_of_the_deployment() -> None:
    for deployment in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]:
        for timing in deployment["schedules"]:
            assert timing["timezone"] in zoneinfo.available_timezones()
            schedule.terms(timing["cron"], None, False, "60", None)
