"""Take the pictures of the documentation: `python -m tests.support.screenshots DIR`.

admin.png and participant.png are the ones that the README shows; web-*.png are more pages, in the dark and on a phone.
"""

from __future__ import annotations

import fcntl
import io
import logging
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser

from tests.support.chromium import chromium, served
from tests.support.furnished import furnish
from tests.support.sample import fill
from tests.support.web import CHEAP_HASH, PASSWORD, make_settings
from webadmin import create_app
from workspaces import heartbeat
from workspaces.store import Store

SIZE_MAX = 100 * 1000  # bytes of one picture
COLOURS = 256  # of its palette: text stays sharp, and it is half the size
QUARTERS = 90  # of an hour of use, for the plots


@dataclass(frozen=True)
class Picture:
    """What `person` sees at `path`; `opened` is clicked first."""

    name: str
    person: str
    path: str
    height: int = 860
    width: int = 1240
    scheme: str = "light"
    opened: str = ""


PICTURES = (
    Picture("admin", "chief", "/admin/", 1000, opened="#r6-paths > summary"),
    Picture("participant", "alice", "/me", 1080),
    Picture("web-overview", "chief", "/admin/overview", 900),
    Picture("web-overview-dark", "chief", "/admin/overview", 900, scheme="dark"),
    Picture("web-workspaces", "chief", "/admin/workspaces", 900),
    Picture("web-workspace", "chief", "/admin/workspaces/1", 900),
    Picture("web-archive", "chief", "/admin/archive", 760),
    Picture("web-challenge-dark", "chief", "/admin/challenges/als", 860, scheme="dark"),
    Picture("web-participant-dark", "alice", "/me", 1080, scheme="dark"),
    Picture("web-participant-phone", "alice", "/me", 800, 390),
    Picture("web-menu-phone", "chief", "/admin/workspaces", 800, 390, opened=".menu summary"),
)


def take(directory: Path, names: tuple[str, ...] = ()) -> list[Path]:
    """Write the pictures (or those of `names`) to `directory`, which is made when it is not there."""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    with tempfile.TemporaryDirectory() as home:
        settings = make_settings(Path(home))
        store = Store.open(settings.database)
        fill(store, CHEAP_HASH)
        furnish(store, QUARTERS)
        with worker(settings.locks), served(create_app(settings, store)) as url, chromium() as browser:
            for picture in PICTURES:
                if not names or picture.name in names:
                    written.append(directory / f"{picture.name}.png")
                    written[-1].write_bytes(_shot(browser, url, picture))
        store.close()
    return written


@contextmanager
def worker(locks: Path) -> Iterator[None]:
    """To whoever looks, a worker is alive."""
    with (locks / heartbeat.LOCK).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        heartbeat.beat(locks)
        heartbeat.engine_answered(locks)
        yield


def _shot(browser: Browser, url: str, picture: Picture) -> bytes:
    size = {"width": picture.width, "height": picture.height}
    scheme = "dark" if picture.scheme == "dark" else "light"
    page = browser.new_page(viewport=size, color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(f"{url}/login?next={picture.path}")
    page.get_by_label("Name").fill(picture.person)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.wait_for_url(f"**{picture.path}")
    if picture.opened:
        page.locator(picture.opened).click()
    page.evaluate("document.fonts.ready")
    shot = page.screenshot()
    page.context.close()
    return small(shot)


def small(png: bytes) -> bytes:
    """The same picture with a palette."""
    out = io.BytesIO()
    with Image.open(io.BytesIO(png)) as picture:
        # Rare colours, such as that of a warning, stay as they are.
        few = picture.convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        few.save(out, "PNG", optimize=True)
    return out.getvalue()


def main() -> int:
    if len(sys.argv) < 2:
        print(__doc__)
        return 2
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    for picture in take(Path(sys.argv[1]), tuple(sys.argv[2:])):
        size = picture.stat().st_size
        print(f"{picture}  {size / 1000:.0f} kB")
        if size > SIZE_MAX:
            print(f"{picture} is larger than {SIZE_MAX // 1000} kB")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
