"""The file of a store: a .npy array of photos, read through a memory map if the file system supports memory maps."""

import errno
import os
from pathlib import Path

import numpy as np

READ_HEADER = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
# Error numbers of mmap on file systems that support no memory maps, or only private ones.
NO_MAPS = (errno.ENODEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EACCES, errno.EPERM)


class UnmappedPhotos:
    """The photos of a store on a file system without memory maps: each photo is read when it is needed."""

    def __init__(self, path: Path):
        self._file = path.open("rb")
        version = np.lib.format.read_magic(self._file)
        self.shape, _, self.dtype = READ_HEADER[version](self._file)
        self._start = self._file.tell()
        if os.fstat(self._file.fileno()).st_size < self._start + np.prod(self.shape):
            raise ValueError("the file is too short")

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, row: int) -> np.ndarray:
        size = int(np.prod(self.shape[1:]))
        # pread does not use the file position, which threads and forked workers share.
        content = os.pread(self._file.fileno(), size, self._start + range(len(self))[row] * size)
        return np.frombuffer(content, np.uint8).reshape(self.shape[1:])


def open_photos(path: Path) -> np.ndarray | UnmappedPhotos:
    """Open the photos with a shared memory map, else with a private one, else without a map.

    The pixels are the same in all three cases.
    """
    for mode in ("r", "c"):
        try:
            return np.load(path, mmap_mode=mode)
        except OSError as error:
            if error.errno not in NO_MAPS:
                raise
    return UnmappedPhotos(path)


def write_header(path: Path, shape: tuple[int, ...]) -> int:
    """Write the header of a .npy file and extend the file to its full size; return the offset of the pixels.

    Unlike numpy's open_memmap, this works on file systems without memory maps.
    """
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        start = file.tell()
        file.truncate(start + int(np.prod(shape)))
    return start
