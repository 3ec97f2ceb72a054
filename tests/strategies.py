"""Hypothesis strategies for grids and slice geometries."""

import numpy as np
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from scripts.geometry.grid import Grid
from scripts.physics.acquisition import SliceGeometry
from scripts.physics.profile import PROFILES

angles = st.floats(-180, 180)
spacings = st.floats(0.3, 8)


@st.composite
def grids(draw, sizes=st.integers(5, 40)) -> Grid:
    """Grids of any orientation, spacing, handedness and position."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", [draw(angles) for _ in range(3)], degrees=True).as_matrix()
    affine[:3, :3] *= [draw(spacings) for _ in range(3)]
    affine[:3, :3] *= [draw(st.sampled_from([-1, 1])) for _ in range(3)]
    affine[:3, 3] = [draw(st.floats(-200, 200)) for _ in range(3)]
    return Grid(tuple(draw(sizes) for _ in range(3)), affine)


@st.composite
def slice_geometries(draw, profiles=PROFILES, counts=st.integers(5, 14)) -> SliceGeometry:
    """Slice geometries with odd and even counts, real-valued factors, gaps and overlaps."""
    factor = draw(st.floats(1.5, 8.5))
    count = draw(counts)
    thin = int(np.floor(count * factor + 0.5))
    return SliceGeometry(thin, count, factor, factor * draw(st.floats(0.5, 1.3)), draw(st.sampled_from(profiles)))
