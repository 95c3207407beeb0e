"""Compiles the guest agent, and what the sftp-server beside it needs, and puts scripts of others into a wheel.

The rest of the package is in setup.cfg. `python setup.py build_agent` compiles the agent in place, as an editable
installation does; `python -m workspaces.assets` brings the scripts in place.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

from setuptools import Command, Distribution, setup
from setuptools.command.build_py import build_py
from setuptools.errors import CompileError

sys.path.insert(0, str(Path(__file__).parent))  # a build from elsewhere does not have it
from workspaces import assets

SOURCES = Path("workspaces/guest/agent")
PRELOAD = "workspaces/guest/preload/passwd.c"
PROGRAM = Path("workspaces/guest/bin/agent")
FLAGS = (
    *("-std=gnu17", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror", "-Wformat=2"),
    *("-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2", "-fstack-protector-strong", "-fstack-clash-protection"),
    *("-s", "-Wl,-z,relro,-z,now,-z,noexecstack"),
)
STATIC = ("-fPIE", "-static-pie")  # it runs in images of any libc, or none


def compile_agent(program: Path) -> None:
    """Compile the agent to `program`, and passwd.so beside it. Raises CompileError with what to do."""
    sources = sorted(str(path) for path in SOURCES.glob("*.c"))
    _compile(program.with_name("passwd.so"), ("-fPIC", "-shared", PRELOAD))
    _compile(program, (*STATIC, *sources, "-lresolv"))


def _compile(program: Path, arguments: tuple[str, ...]) -> None:
    """Compile `program`, replacing it in one step."""
    compiler = os.environ.get("CC", "gcc")
    if shutil.which(compiler) is None:
        raise CompileError(f"The guest agent needs a C compiler and {compiler} is not installed: apt install gcc.")
    program.parent.mkdir(parents=True, exist_ok=True)
    new = program.with_name(f".{program.name}.{os.getpid()}")
    result = subprocess.run([compiler, *FLAGS, "-o", str(new), *arguments], capture_output=True, text=True)
    if result.returncode != 0:
        new.unlink(missing_ok=True)
        missing = ("cannot find -lc", "rcrt1.o", "fatal error: stdio.h", "fatal error: errno.h")
        if any(sign in result.stderr for sign in missing):
            raise CompileError(
                "The guest agent needs the C library's headers and static libraries: apt install libc6-dev."
            )
        raise CompileError(f"The guest agent does not compile:\n{result.stderr}")
    new.replace(program)


class BuildAgent(Command):
    description = "compile the guest agent in place"
    user_options: ClassVar[list[tuple[str, str | None, str]]] = []

    def initialize_options(self) -> None:
        pass

    def finalize_options(self) -> None:
        pass

    def run(self) -> None:
        compile_agent(PROGRAM)


class BuildWithAgent(build_py):
    def run(self) -> None:
        super().run()
        compile_agent(PROGRAM if self.editable_mode else Path(self.build_lib) / PROGRAM)
        if self.editable_mode:
            return
        try:
            assets.install(Path("webadmin"), Path(self.build_lib) / "webadmin/static/vendor", tests=False)
        except assets.Unavailable as problem:
            self.warn(f"the web terminal, the player and the plots are not in this wheel. {problem}")


class PlatformDistribution(Distribution):
    """The agent is a program, not an extension, but a wheel with it belongs to one platform all the same."""

    def has_ext_modules(self) -> bool:
        return True


setup(distclass=PlatformDistribution, cmdclass={"build_agent": BuildAgent, "build_py": BuildWithAgent})
