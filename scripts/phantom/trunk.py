"""Trunk of the phantom: outline, fat, muscles, ribs, lungs, heart, spine and pelvis (atlas RAS, mm)."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from .shapes import Block, Canvas, Tissue, along, ellipse, ellipsoid, smooth_max, smooth_min

# Signal of a fat-suppressed T1 gradient echo (VIBE) about a minute after gadolinium, in scanner units.
SKIN = Tissue(430, 0.05, 0.03)
FAT = Tissue(155, 0.06, 0.06)
VISCERAL_FAT = Tissue(140, 0.08, 0.08)
SEPTUM = Tissue(300)
MUSCLE = Tissue(335, 0.06, 0.04)
FASCIA = Tissue(165)
CORTICAL_BONE = Tissue(70)
MARROW = Tissue(265, 0.10, 0.06)
DISC = Tissue(190, 0.05, 0.05)
NUCLEUS = Tissue(130, 0.04)
CSF = Tissue(105, 0.03)
CORD = Tissue(330, 0.03)
NERVE = Tissue(300)
LUNG = Tissue(32, 0.25, 0.15)
BLOOD = Tissue(800, 0.02, 0.03)
MYOCARDIUM = Tissue(520, 0.05, 0.04)

VERTEBRAE = [  # centre z, body half width, half depth, half height (mm): Th10 to L5
    (166, 18, 14, 12.0), (134, 19, 15, 12.5), (101, 20, 15.5, 13.0), (67, 21.5, 16, 13.5),
    (32, 22.5, 16.5, 13.5), (-3, 23.5, 17, 13.5), (-38, 24.5, 17.5, 13.0), (-72, 25, 17.5, 12.5),
]  # fmt: skip


def spine_y_mm(z: np.ndarray | float) -> np.ndarray:
    """Return the front-to-back position (mm) of the centres of the vertebral bodies at height z (mm): the lordosis."""
    heights = (-170, -135, -110, -88, -72, -38, -3, 32, 67, 101, 134, 170)
    depths = (-82, -81, -72, -57, -47, -34, -30, -32, -39, -47, -53, -57)
    return along(z, heights, depths)


def outline(block: Block) -> np.ndarray:
    """Return the signed distance (mm) to the skin: a flattened oval with waist, hips and a furrow over the spine."""
    x, y, z = block.x, block.y, block.z
    heights = (-170, -120, -70, -10, 50, 110, 170)
    a = along(z, heights, (161, 159, 152, 144, 147, 150, 147))
    front = along(z, heights, (84, 96, 103, 100, 98, 99, 98))
    back = along(z, heights, (118, 117, 110, 107, 110, 111, 109))
    b = back + (front - back) * np.clip(0.5 + y / 60, 0, 1)
    u, v = np.square(x / a), np.square(y / b)
    level = np.sqrt(np.sqrt(u * u + v * v + 1.35 * u * v))
    radius = np.sqrt(x * x + y * y + 1)  # never zero, or the body's axis would count as outside
    furrow = 7 * np.exp(-np.square(x / 15)) * np.clip(-y / 40, 0, 1)
    navel = 5 * np.exp(-np.square(x / 30) - np.square((z + 20) / 60)) * np.clip(y / 40, 0, 1)
    return radius * (1 - 1 / np.maximum(level, 1e-3)) * np.float32(0.95) + furrow - navel


def fat_depth_mm(block: Block) -> np.ndarray:
    """Return the thickness (mm) of the fat under the skin: thick over flanks, hips and belly, thin over the ribs."""
    flank = np.square(block.x / 150)
    low = np.clip((20 - block.z) / 120, 0, 1)
    belly = np.clip(block.y / 90, 0, 1) * np.exp(-np.square((block.z + 60) / 60))
    return (11 + 5 * flank + 12 * low + 8 * belly + 1.2 * block.texture("wide")).astype(np.float32)


def body(canvas: Canvas) -> tuple[np.ndarray, np.ndarray]:
    """Paint skin, fat and the muscular wall; return the signed distances (mm) to the skin's fat and the inside."""
    skin = outline(canvas)
    canvas.paint(skin, SKIN)
    canvas.paint(skin + 2.2, FAT)
    fat = fat_depth_mm(canvas)
    deep = skin + fat  # zero on the outer fascia
    septa = canvas.sheets("web", 1.2) * np.clip((-skin - 2) / 3, 0, 1)
    canvas.values += 0.55 * septa * (SEPTUM.value - FAT.value) * (skin < 0)
    scarpa = np.abs(skin + 0.52 * fat) - 0.55
    canvas.paint(smooth_max(scarpa, 70 + canvas.z - np.abs(canvas.x) * 0.2, 8), SEPTUM)
    wall = _wall_depth_mm(canvas)
    canvas.paint(deep, MUSCLE)
    _wall_layers(canvas, deep, wall)
    inside = deep + wall
    canvas.paint(inside, VISCERAL_FAT)
    _fat_strands(canvas, inside)
    return deep, inside


def _wall_depth_mm(canvas: Canvas) -> np.ndarray:
    """Return the thickness (mm) of the muscular wall: rectus in front, thin flat muscles at the side, thick back."""
    rectus = np.exp(-np.square((np.abs(canvas.x) - 36) / 24) * 1.2) * np.clip(canvas.y / 50, 0, 1)
    linea = np.exp(-np.square(canvas.x / 6)) * np.clip(canvas.y / 50, 0, 1)
    back = np.clip(-(canvas.y + 40) / 40, 0, 1)
    return (15 - 2 * linea - 3 * np.clip(canvas.y / 50, 0, 1) + 2.5 * rectus + 9 * back).astype(np.float32)


def _wall_layers(canvas: Canvas, deep: np.ndarray, wall: np.ndarray) -> None:
    """Paint the fat planes between the flat muscles, the linea alba, ribs and the muscles' fibres."""
    side = np.clip((np.abs(canvas.x) - 62) / 10, 0, 1)
    for share in (0.36, 0.70):
        plane = np.abs(deep + share * wall) - 0.6
        canvas.paint(plane + 4 * (1 - side) + np.clip(canvas.z - 60, 0, 4), FASCIA)
    midline = smooth_max(smooth_max(np.abs(canvas.x) - 2.2, deep, 1), 20 - canvas.y, 2)
    canvas.paint(smooth_max(midline, -deep - wall, 1), FASCIA)
    fibres = canvas.sheets("fibre", 1.3) * np.clip(-deep / 3, 0, 1)
    canvas.values -= 0.5 * fibres * (MUSCLE.value - FASCIA.value)
    _ribs(canvas, deep, wall)


def _ribs(canvas: Canvas, deep: np.ndarray, wall: np.ndarray) -> None:
    """Paint ribs: pipes in the middle of the upper wall, sloping down towards the front."""
    where = canvas.block((0, 0, 120), (175, 130, 95))
    if where is None:
        return
    x, y, z = where.x, where.y, where.z
    height = z + 0.42 * y + 0.06 * np.abs(x)
    period = 25.0
    nearest = height - period * np.round(height / period)
    depth = deep[where.where] + 0.55 * wall[where.where]
    pipe = np.sqrt(np.square(nearest * 0.9 / 1.45) + np.square(depth)) - 4.3
    arch = 58 - 0.9 * np.maximum(y, 0) - z + 0.25 * np.abs(x)  # the costal arch: no ribs below it
    sternum_gap = 26 - np.abs(x) - 30 * (y < 0)
    outer = np.maximum(np.maximum(pipe, arch), sternum_gap)
    where.paint(outer, CORTICAL_BONE)
    where.paint(outer + 1.5, MARROW)


def _fat_strands(canvas: Canvas, inside: np.ndarray) -> None:
    """Paint the strands and small vessels that cross the fat of the belly."""
    strands = canvas.sheets("strand", 1.2) * canvas.sheets("web", 6.0)
    canvas.values += 0.8 * strands * (SEPTUM.value - VISCERAL_FAT.value) * np.clip(-inside / 2, 0, 1)
    canvas.paint(np.abs(inside + 1.5) - 0.7, SEPTUM)


def chest(canvas: Canvas, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Paint diaphragm, lungs and heart; return the signed distances (mm) to the space below and to the lungs."""
    x, y, z = canvas.x, canvas.y, canvas.z
    right = np.exp(-np.square((x - 68) / 52) - np.square((y - 8) / 70))
    left = np.exp(-np.square((x + 72) / 48) - np.square((y - 2) / 68))
    dome = 104 + 40 * right + 31 * left - 75 * np.exp(np.minimum(inside, 0) / 13)
    above = (z - dome) * np.float32(0.8)
    lung = smooth_max(-above + 3.5, inside + 3, 3)
    middle = smooth_min(ellipse(x + 4, y - 8, 30, 62), np.maximum(np.abs(x) - 24, y + 25), 6)
    lung = smooth_max(lung, -middle, 4)
    canvas.paint(smooth_max(np.abs(above) - 2.2, inside, 2), MUSCLE)
    canvas.paint(lung, LUNG)
    _heart(canvas)
    return above, lung


def _heart(canvas: Canvas) -> None:
    """Paint the lower part of the heart: two chambers in their muscle, on the diaphragm."""
    block = canvas.block((-28, 32, 158), (62, 50, 42))
    if block is None:
        return
    x, y, z = block.x + 28, block.y - 32, block.z - 158
    u, v = x * 0.86 + y * 0.5, -x * 0.5 + y * 0.86
    outer = ellipsoid(u, v, z, (58, 40, 34))
    block.paint(outer - 2.5, VISCERAL_FAT)
    block.paint(outer, MYOCARDIUM)
    block.paint(ellipsoid(u + 16, v + 8, z - 4, (28, 19, 21)), BLOOD)
    block.paint(ellipsoid(u - 24, v - 12, z - 2, (22, 18, 25)), BLOOD)


def muscles(canvas: Canvas, deep: np.ndarray) -> None:
    """Paint the muscles along the spine, psoas, quadratus lumborum and gluteus, under the fat (`deep`, mm)."""
    for side in (-1, 1):
        erector = canvas.block((side * 34, -80, 0), (34, 32, 180))
        if erector is not None:
            shape = ellipse(erector.x - side * 33, erector.y - 0.35 * spine_y_mm(erector.z) + 68, 29, 21)
            _muscle(erector, smooth_max(shape, deep[erector.where], 4))
        psoas = canvas.block((side * 40, -28, -40), (36, 36, 118))
        if psoas is not None:
            way = np.clip((62 - psoas.z) / 200, 0, 1).astype(np.float32)
            radius = (5 + 58 * way * (1 - way) + 8 * way).astype(np.float32)
            across, deeper = psoas.x - side * (27 + 52 * way**1.6), (psoas.y + 34 - 42 * way**2) / 1.15
            shape = np.sqrt(np.square(across) + np.square(deeper)) - radius
            _muscle(psoas, smooth_max(shape, psoas.z - 62, 6))
        quadratus = canvas.block((side * 66, -58, 0), (26, 18, 70))
        if quadratus is not None:
            _muscle(quadratus, ellipsoid(quadratus.x - side * 65, quadratus.y + 58, quadratus.z, (20, 10, 66)))
        gluteus = canvas.block((side * 82, -78, -150), (70, 40, 78))
        if gluteus is not None:
            shape = ellipsoid(gluteus.x - side * 82, gluteus.y + 76, gluteus.z + 160, (62, 34, 74))
            _muscle(gluteus, smooth_max(shape, deep[gluteus.where], 6))


def _muscle(block: Block, distance: np.ndarray) -> None:
    """Paint a muscle with its fascia and the fat between its fibres."""
    block.paint(distance - 1.2, FASCIA)
    block.paint(distance, MUSCLE)
    fibres = block.canvas.sheets("fibre", 1.3)[block.where]
    block.values -= 0.6 * fibres * (MUSCLE.value - FASCIA.value) * np.clip(-distance / 2, 0, 1)


def spine(canvas: Canvas, deep: np.ndarray) -> None:
    """Paint vertebrae with their arches, discs, canal, cord, cauda equina and sacrum, under the skin (`deep`, mm)."""
    for z, a, b, h in VERTEBRAE:
        _vertebra(canvas, deep, z, a, b, h)
    for (upper, a, b, h), (lower, *_rest, lower_h) in pairwise(VERTEBRAE):
        _disc(canvas, (upper - h + lower + lower_h) / 2, a + 1, b + 1, (upper - h - lower - lower_h) / 2)
    _sacrum(canvas)
    _canal(canvas)


def _vertebra(canvas: Canvas, deep: np.ndarray, z_mm: float, a: float, b: float, h: float) -> None:
    y_mm = float(spine_y_mm(np.float32(z_mm)))
    block = canvas.block((0, y_mm - 22, z_mm), (50, 48, 26))
    if block is None:
        return
    tilt = float(spine_y_mm(np.float32(z_mm + 10)) - spine_y_mm(np.float32(z_mm - 10))) / 20
    x, z = block.x, block.z - z_mm + tilt * (block.y - y_mm)
    y = block.y - y_mm - tilt * z
    waist = 1.8 * (1 - np.square(np.clip(z / h, -1, 1)))
    plates = np.abs(z) - h + 1.2 * np.exp(-np.square(x / 12) - np.square(y / 9))
    shape = smooth_max(ellipse(x, y, a, b) + waist, plates, 2.5)
    across = np.abs(x)
    pedicle = np.sqrt(np.square(across - 15) + np.square(z - 4)) - 5.2
    pedicle = np.maximum(pedicle, np.abs(y + b + 8) - 11)
    transverse = np.sqrt(np.square((y + b + 14 + 0.2 * across) / 0.9) + np.square(z - 2)) - 4.2
    transverse = smooth_max(np.maximum(transverse, across - 38), 13 - across, 2)
    lamina = np.abs(y + b + 22 + 0.8 * (4 - across)) - 3.8
    lamina = np.maximum(np.maximum(lamina, across - 17), np.abs(z + 3) - 11)
    spinous = np.maximum(across - 3.4, np.maximum(np.abs(y + b + 35) - 12, np.abs(z + 5 - 0.15 * (y + b + 35)) - 9))
    facet = np.sqrt(np.square(across - 19) + np.square(y + b + 18) + np.square((z + 12) / 1.6)) - 7
    arch = smooth_min(smooth_min(transverse, pedicle, 3), smooth_min(smooth_min(lamina, spinous, 4), facet, 2), 3)
    whole = smooth_max(smooth_min(shape, arch, 2), deep[block.where] - 4, 2)
    block.paint(whole - 0.4, CORTICAL_BONE)
    block.paint(whole + 1.3, MARROW)
    vein = np.maximum(np.sqrt(np.square(z) + np.square(x * 0.35)) - 1.6, np.abs(y + 0.55 * b) - 0.5 * b)
    block.paint(vein, Tissue(560))


def _disc(canvas: Canvas, z_mm: float, a: float, b: float, h: float) -> None:
    y_mm = float(spine_y_mm(np.float32(z_mm)))
    block = canvas.block((0, y_mm, z_mm), (30, 24, 14))
    if block is None:
        return
    tilt = float(spine_y_mm(np.float32(z_mm + 10)) - spine_y_mm(np.float32(z_mm - 10))) / 20
    x, z = block.x, block.z - z_mm + tilt * (block.y - y_mm)
    y = block.y - y_mm
    ring = smooth_max(ellipse(x, y, a, b), np.abs(z) - h + 0.2, 2)
    block.paint(ring, DISC)
    block.paint(ellipsoid(x, y + 2, z, (0.68 * a, 0.62 * b, 0.75 * h)), NUCLEUS)


def _sacrum(canvas: Canvas) -> None:
    block = canvas.block((0, -75, -122), (60, 36, 56))
    if block is None:
        return
    centre = spine_y_mm(block.z)
    across = np.abs(block.x)
    y, z = block.y - centre, block.z
    half = along(z, (-172, -88), (20, 50))
    plate = smooth_max(np.abs(y + 5 + 0.12 * across) - 15 + 0.12 * across, smooth_max(across - half, z + 88, 4), 5)
    block.paint(plate - 0.4, CORTICAL_BONE)
    block.paint(plate + 1.3, MARROW)
    rows = z + 101 - 22 * np.round((z + 101) / 22)
    hole = np.sqrt(np.square(across - 20) + np.square(rows)) - 4.0
    block.paint(np.maximum(hole, plate + 1), FAT)
    block.paint(np.maximum(np.sqrt(np.square(across - 20.5) + np.square(rows)) - 1.8, plate + 1), NERVE)
    line = np.abs(z + 112 - 22 * np.round((z + 112) / 22)) - 0.9
    block.paint(np.maximum(np.maximum(line, across - 17), plate + 2), CORTICAL_BONE)


def _canal(canvas: Canvas) -> None:
    block = canvas.block((0, -75, 30), (16, 45, 205))
    if block is None:
        return
    x, z = block.x, block.z
    y = block.y - spine_y_mm(z) + along(z, (-112, -72), (10, 26.5))  # within the sacrum at its lower end
    bottom = -112 - z
    sac = np.maximum(ellipse(x, y, 10.5, 8.0), bottom)
    block.paint(sac - 1.8, FAT)
    block.paint(sac, CSF)
    width = along(z, (48, 75, 110), (1.0, 4.6, 4.8))
    block.paint(np.maximum(np.sqrt(np.square(x / 1.15) + np.square(y + 0.5)) - width, 44 - z), CORD)
    for strand in range(-3, 4):
        at_x, at_y = 2.1 * strand, -4.2 + 0.35 * strand * strand + 0.4 * (strand % 2)
        way = np.clip((62 - z) / 30, 0.4, 1).astype(np.float32)
        root = np.sqrt(np.square(x - at_x * way) + np.square(y - at_y * way)) - 0.75
        block.paint(np.maximum(np.maximum(root, z - 62), bottom + 6), CORD)


def pelvis(canvas: Canvas, deep: np.ndarray) -> None:
    """Paint iliac wings, iliacus, and the femoral heads in their sockets, under the fat (`deep`, mm)."""
    for side in (-1, 1):
        block = canvas.block((side * 92, -10, -100), (56, 92, 78))
        if block is None:
            continue
        x, y, z = block.x * side, block.y, block.z
        bowl = ellipsoid(x - 8, y - 22, z + 62, (113, 104, 92))
        edge = smooth_max(np.maximum(48 - x, y - 62 - 0.2 * z), z + 38 + 0.35 * np.abs(y + 10), 5)
        wing = smooth_max(np.abs(bowl) - 5.5 - 2.5 * np.exp(-np.square((y + 55) / 22)), edge, 4)
        wing = smooth_max(wing, -150 - z, 3)
        iliacus = smooth_max(smooth_max(np.abs(bowl + 14) - 8, edge + 2, 4), -135 - z, 4)
        _muscle(block, iliacus)
        outer = smooth_max(smooth_max(np.abs(bowl - 14) - 8, edge - 1, 5), z + 62, 5)
        _muscle(block, smooth_max(outer, deep[block.where], 4))
        socket = ellipsoid(x - 90, y - 8, z + 148, (34, 33, 33))
        bone = smooth_max(smooth_min(wing, socket, 8), deep[block.where] + 1, 3)
        block.paint(bone - 0.4, CORTICAL_BONE)
        block.paint(bone + 1.6, MARROW)
        head = ellipsoid(x - 93, y - 8, z + 153, (24, 24, 24))
        block.paint(head - 2.6, Tissue(420))
        block.paint(head - 0.6, CORTICAL_BONE)
        block.paint(head + 1.2, Tissue(215, 0.08, 0.05))
