"""A kernel for QEMU guests: the distribution's own, downloaded once, unpacked without installing it.

Kept in ~/.cache/viaduct/guest/PACKAGE: `vmlinuz`, and the modules of a virtio NIC in the order they are loaded.
"""

import fcntl
import lzma
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from lab.host import GUEST
from lab.machine import LabError

# The smallest of Debian (27 MB, and 2 s to unpack) and of Ubuntu; each depends on the package of today's version.
METAPACKAGES = ("linux-image-cloud-amd64", "linux-image-virtual")
MODULES = ("virtio_pci", "virtio_net")  # a kernel that has them built in has no such files
BUSYBOX = Path("/bin/busybox")


def guest_kernel() -> Path:
    """Return the directory with the kernel, downloading it when there is none yet.

    Raises:
        LabError: it could not be downloaded or unpacked; the text says what failed.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "viaduct" / "guest"
    cache.mkdir(parents=True, exist_ok=True)
    with _alone(cache / "lock"):
        found = sorted(cache.glob("linux-image-*/vmlinuz"))
        return found[-1].parent if found else _download(cache)


def make_initramfs(kernel: Path, directory: Path) -> Path:
    """Pack busybox, the modules and `guest/qemu-init` as PID 1 into a file in `directory`, and return it.

    Raises:
        LabError: there is no busybox, or it did not pack.
    """
    if not BUSYBOX.exists():
        raise LabError("no busybox: make system-packages installs it")
    with TemporaryDirectory(dir=directory) as name:
        root = Path(name)
        for part in ("bin", "dev", "lib", "proc", "sys"):
            (root / part).mkdir()
        shutil.copy(BUSYBOX, root / "bin" / "busybox")
        shutil.copy(GUEST / "qemu-init", root / "init")
        for module in kernel.glob("*.ko"):
            shutil.copy(module, root / "lib")
        paths = sorted(str(path.relative_to(root)) for path in root.rglob("*"))
        initramfs = directory / "initramfs"
        with initramfs.open("wb") as output:
            done = subprocess.run(
                [BUSYBOX, "cpio", "-o", "-H", "newc"],
                cwd=root, input="\n".join(paths).encode(), stdout=output, stderr=subprocess.PIPE, check=False,
            )  # fmt: skip
    if done.returncode:
        raise LabError(f"busybox cpio: {done.stderr.decode()}")
    return initramfs


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _download(cache: Path) -> Path:
    with TemporaryDirectory(dir=cache) as name:
        scratch = Path(name)
        try:
            package = _fetch(scratch)
        except LabError:  # no package lists yet, or the version they name is gone from the mirror
            _run(["apt-get", "update", "-q"], scratch)
            package = _fetch(scratch)
        (archive,) = scratch.glob("*.deb")
        _run(["dpkg-deb", "-x", archive.name, "unpacked"], scratch)
        chosen = scratch / package
        chosen.mkdir()
        (kernel,) = (scratch / "unpacked" / "boot").glob("vmlinuz-*")
        shutil.copy(kernel, chosen / "vmlinuz")
        for number, module in enumerate(_modules(scratch / "unpacked")):
            (chosen / f"{number:02}-{module[0]}.ko").write_bytes(module[1])
        return chosen.rename(cache / package)


def _fetch(scratch: Path) -> str:
    """Download the package that a metapackage stands for today, and return its name."""
    for metapackage in METAPACKAGES:
        depends = _run(["apt-cache", "depends", metapackage], scratch, check=False)
        if real := re.search(r"Depends: (linux-image-\d\S+)", depends):
            _run(["apt-get", "download", "-q", real[1]], scratch)
            return real[1]
    raise LabError(f"no package of these is known: {', '.join(METAPACKAGES)}")


def _modules(unpacked: Path) -> list[tuple[str, bytes]]:
    """Name and content of `MODULES` and of what they depend on, that first."""
    files = {path.name.partition(".")[0].replace("-", "_"): path for path in unpacked.rglob("*.ko*")}
    found: dict[str, bytes] = {}

    def add(name: str) -> None:
        if name in found or name not in files:
            return
        content = files[name].read_bytes()
        content = lzma.decompress(content) if files[name].suffix == ".xz" else content
        depends = re.search(rb"\0depends=([^\0]*)\0", content)  # modinfo(8)
        for other in depends[1].decode().split(",") if depends else []:
            add(other.replace("-", "_"))
        found[name] = content

    for wanted in MODULES:
        add(wanted)
    return list(found.items())


def _run(argv: list[str], directory: Path, *, check: bool = True) -> str:
    done = subprocess.run(
        argv, cwd=directory, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )  # fmt: skip
    if check and done.returncode:
        raise LabError(f"{' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout
