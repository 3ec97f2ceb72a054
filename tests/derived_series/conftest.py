from tests.dicom.conftest import affine, series

__all__ = ["affine", "series"]  # fixtures of the acquired series, which a derived one starts from
