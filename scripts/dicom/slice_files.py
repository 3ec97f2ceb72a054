"""The files of a derived series, byte by byte."""

import struct
from pathlib import Path

from pydicom.charset import convert_encodings
from pydicom.dataset import Dataset, FileMetaDataset, validate_file_meta
from pydicom.filebase import DicomBytesIO, DicomIO
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.uid import ExplicitVRLittleEndian

from .files import quiet


class SliceFiles:
    """Writes the files of a series; what its slices share is encoded once.

    In explicit VR a data set is the concatenation of its elements in the order of their tags (PS3.5, 7.1).
    """

    def __init__(self, header: Dataset) -> None:
        self.header = header
        self.charset = convert_encodings(header.get("SpecificCharacterSet", "ISO_IR 6"))
        self.encoded = self._elements(header)

    def write(self, path: Path, own: Dataset, pixels: bytes) -> None:
        """Writes one file: the shared elements, the slice's own, the pixels."""
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = self.header.SOPClassUID, own.SOPInstanceUID
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        validate_file_meta(meta, enforce_standard=True)
        elements = self.encoded | self._elements(own)
        with path.open("wb") as file:
            file.write(bytes(128) + b"DICM")
            write_file_meta_info(DicomIO(file), meta, enforce_standard=True)
            file.writelines(elements[tag] for tag in sorted(elements))
            # PixelData (7FE0,0010), OW, reserved, length
            file.write(struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, len(pixels)) + pixels)

    def _elements(self, dataset: Dataset) -> dict[int, bytes]:
        encoded = {}
        for element in dataset:
            buffer = DicomBytesIO()
            buffer.is_little_endian, buffer.is_implicit_VR = True, False
            single = Dataset()
            single.add(element)
            with quiet():
                write_dataset(buffer, single, self.charset)
            encoded[int(element.tag)] = buffer.getvalue()
        return encoded
