"""rsync, git and sshfs over the gateway, as on any host: many small files, large objects, an interrupted copy."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.clients import (
    Laptop,
    alice,
    base_image,
    digest,
    guest_dir,
    laptop,
    nothing_left,
    plant,
    private_engine,
    quiet,
    random_file,
    stage,
    tree,
)
from tests.support.gateway import until

__all__ = ["alice", "base_image", "guest_dir", "laptop", "nothing_left", "private_engine", "quiet", "stage"]

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("nothing_left")]

MANY = 5_000


def rsync(laptop: Laptop, *arguments: str) -> str:
    return laptop.run("rsync", "-e", f"ssh -F {laptop.config}", *arguments).stdout.decode()


# --- rsync ---


def test_rsync_of_many_small_files(laptop: Laptop) -> None:
    many = laptop.home / "many"
    for number in range(MANY):
        directory = many / f"{number % 50}"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{number}").write_bytes(b"%d\n" % number * (number % 200))
    rsync(laptop, "-a", "many", "gate:")
    assert tree(laptop.there("many")) == tree(many)
    for number in range(0, MANY, 500):
        (many / f"{number % 50}" / f"{number}").unlink()
    (many / "7/7").write_text("changed")
    shutil.rmtree(many / "3")
    said = rsync(laptop, "-a", "--delete", "--itemize-changes", "many", "gate:")
    assert said.count("*deleting") == MANY // 500 + MANY // 50 + 1
    assert said.count("<f") == 1
    assert tree(laptop.there("many")) == tree(many)
    assert rsync(laptop, "-a", "--delete", "--itemize-changes", "gate:many/", "many/") == ""


def test_rsync_with_compression_links_and_sparse_files(laptop: Laptop) -> None:
    plant(laptop.home / "tree")
    (laptop.home / "tree/text").write_text("the same line again and again\n" * 200_000)
    (laptop.home / "tree/link").symlink_to("deep/er/file")
    os.link(laptop.home / "tree/secret", laptop.home / "tree/hard")
    with (laptop.home / "tree/sparse").open("wb") as file:
        file.truncate(50_000_000)
    sent = tree(laptop.home / "tree")
    rsync(laptop, "-azHS", "tree", "gate:")
    assert tree(laptop.there("tree")) == sent
    assert laptop.there("tree/sparse").stat().st_blocks < 1000
    assert laptop.there("tree/hard").stat().st_nlink == 2
    rsync(laptop, "-azHS", "gate:tree/", "back/")
    assert tree(laptop.home / "back") == sent


def test_rsync_that_is_interrupted_goes_on_where_it_was(laptop: Laptop) -> None:
    source = random_file(laptop.home / "source", 20_000_000)
    command = ["rsync", "-e", f"ssh -F {laptop.config}", "--partial", "--inplace", "--bwlimit=4000"]
    with laptop.popen(*command, str(source), "gate:target") as first:
        target = laptop.there("target")
        until(lambda: target.exists() and target.stat().st_size > 3_000_000, what="a part to arrive")
        first.terminate()
        first.communicate(timeout=10)
    part = laptop.there("target").stat().st_size
    assert 3_000_000 < part < 20_000_000
    said = rsync(laptop, "--partial", "--inplace", "--no-whole-file", "--stats", "source", "gate:target")
    assert digest(laptop.there("target")) == digest(source)
    matched = next(line for line in said.splitlines() if line.startswith("Matched data:"))
    assert int(matched.split()[2].replace(",", "")) > 3_000_000


# --- git ---


def git(laptop: Laptop, *arguments: str, cwd: Path | None = None) -> str:
    identity = {"GIT_AUTHOR_NAME": "Alice", "GIT_AUTHOR_EMAIL": "a@example", "GIT_CONFIG_NOSYSTEM": "1"}
    identity |= {"GIT_COMMITTER_NAME": "Alice", "GIT_COMMITTER_EMAIL": "a@example"}
    return laptop.run("git", *arguments, cwd=cwd, more=identity).stdout.decode().strip()


@pytest.mark.parametrize(("url", "size"), [("ssh://gate/root/project.git", 20_000_000), ("gate:project.git", 100_000)])
def test_git_pushes_clones_and_pulls(laptop: Laptop, url: str, size: int) -> None:
    laptop.run(*laptop.ssh("gate", "git init -q --bare -b main project.git"))
    here, other = laptop.home / "here", laptop.home / "other"
    git(laptop, "init", "-q", "-b", "main", "here")
    random_file(here / "model", size)
    (here / "text").write_text("one\n")
    git(laptop, "add", ".", cwd=here)
    git(laptop, "commit", "-q", "-m", "first", cwd=here)
    git(laptop, "push", "-q", url, "main", cwd=here)
    git(laptop, "clone", "-q", url, "other")
    assert digest(other / "model") == digest(here / "model")
    (other / "text").write_text("two\n")
    git(laptop, "commit", "-q", "-a", "-m", "second", cwd=other)
    git(laptop, "push", "-q", cwd=other)
    git(laptop, "pull", "-q", "--ff-only", url, "main", cwd=here)
    assert (here / "text").read_text() == "two\n"
    heads = {git(laptop, "rev-parse", "HEAD", cwd=where) for where in (here, other)}
    assert heads == {git(laptop, "ls-remote", url, "main").split()[0]}
    assert laptop.run(*laptop.ssh("gate", "git -C project.git fsck --strict")).returncode == 0


# --- sshfs ---


def no_fuse() -> str:
    """Why nothing can be mounted with FUSE here, empty when it can."""
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:
        return f"/dev/fuse: {error.strerror}"
    return ""


@pytest.mark.skipif(bool(no_fuse()), reason=no_fuse())
def test_sshfs_is_a_directory_like_any(laptop: Laptop) -> None:
    source = random_file(laptop.home / "source", 8_000_000)
    mounted = laptop.home / "mounted"
    mounted.mkdir()
    laptop.run("sshfs", "-F", str(laptop.config), "gate:", "mounted")
    try:
        shutil.copyfile(source, mounted / "large")
        (mounted / "d").mkdir()
        (mounted / "large").rename(mounted / "d/moved")
        (mounted / "d/moved").chmod(0o640)
        (mounted / "link").symlink_to("d/moved")
        with (mounted / "log").open("a") as file:
            file.write("one\n")
            file.flush()
            file.write("two\n")
        os.truncate(mounted / "link", 7_000_000)
        assert (mounted / "link").read_bytes() == source.read_bytes()[:7_000_000]
        names = {name for name in os.listdir(mounted) if not name.startswith(".")}
        assert names == {"d", "link", "log"}
        assert os.statvfs(mounted).f_bavail > 0
        with pytest.raises(FileNotFoundError):
            (mounted / "absent").read_bytes()
        (mounted / "link").unlink()
        laptop.put("made there", b"seen here")
        assert (mounted / "made there").read_bytes() == b"seen here"
    finally:
        subprocess.run(["fusermount3", "-u", str(mounted)], check=True)
        until(lambda: not mounted.is_mount(), what="sshfs to let go")
    assert laptop.there("log").read_text() == "one\ntwo\n"
    assert oct(laptop.there("d/moved").stat().st_mode)[-3:] == "640"
