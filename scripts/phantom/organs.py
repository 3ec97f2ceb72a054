"""Organs of the phantom: liver, gallbladder, spleen, pancreas, kidneys, stomach, bowel, bladder (atlas RAS, mm)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .shapes import Block, Canvas, Tissue, Tube, Warp, curve, ellipsoid, smooth_max, smooth_min
from .trunk import BLOOD, FAT, MUSCLE, VISCERAL_FAT

CAPSULE = Tissue(300)
LIVER = Tissue(470, 0.055, 0.035)
VEIN = Tissue(690, 0.02, 0.02)
LUNG_VESSEL = Tissue(520)
SPLEEN = Tissue(520, 0.05, 0.03)
BILE = Tissue(210, 0.02, 0.05)
PANCREAS = Tissue(450, 0.10, 0.05)
CORTEX = Tissue(760, 0.04, 0.03)
MEDULLA = Tissue(560, 0.04, 0.03)
URINE = Tissue(95, 0.015, 0.02)
GUT_WALL = Tissue(560, 0.06, 0.05)
CHYME = Tissue(215, 0.06, 0.16)
STOOL = Tissue(250, 0.18, 0.30)
GAS = Tissue(22, 0.10)
PROSTATE = Tissue(430, 0.10, 0.08)
FOLD_MM = 5.2  # from fold to fold of the small bowel
HAUSTRUM_MM = 27.0
THINNING = 0.74  # radius of a branch over that of its stem
THINNEST_MM = 0.4  # radius of the last vessels drawn
BLADDER_CENTRE_MM = (3.0, 24.0, -118.0)
BLADDER_RADII_MM = (41.0, 31.0, 28.0)


@dataclass(frozen=True)
class Pipes:
    """Hollow organs and vessels of one patient, points in world mm."""

    pulmonary: Tube
    artery: Tube
    vein: Tube
    mesenteric: Tube
    hepatic: Tube
    portal: Tube
    splenic: Tube
    renal: Tube
    small_bowel: Tube
    colon: Tube
    rectum: Tube
    stomach: Tube
    pancreas: Tube
    ureter: Tube


def tree(rng: np.random.Generator, start, aim, radius_mm: float, generations: int, spread: float = 0.55) -> list[Tube]:
    """Draw a vessel tree from one point towards another (mm), with thinner branches in each generation."""
    start, aim = np.asarray(start, float), np.asarray(aim, float)
    way = aim - start
    length = float(np.sqrt(way @ way))
    middle = start + 0.5 * way + rng.normal(size=3) * 0.09 * length
    thin = radius_mm * (0.86 if generations else 0.6)
    t = np.linspace(0, 1, 2 + int(length / 9))[:, None]
    bend = start + t * way + 4 * t * (1 - t) * (middle - start - 0.5 * way)
    tubes = [Tube.along(bend, radius_mm + t[:, 0] * (thin - radius_mm))]
    if generations == 0 or radius_mm * THINNING < THINNEST_MM:
        return tubes
    side = np.cross(way, rng.normal(size=3))
    side /= np.linalg.norm(side)
    for sign, share in ((1, rng.uniform(0.68, 0.86)), (-1, rng.uniform(0.58, 0.80))):
        turn = sign * spread * rng.uniform(0.7, 1.3)
        onward = (np.cos(turn) * way + np.sin(turn) * length * side) * share
        tubes += tree(rng, aim, aim + onward, radius_mm * THINNING, generations - 1, spread)
    if generations > 1:
        twig = middle + 0.55 * (np.cross(way, side) * rng.choice([-1, 1]) + 0.5 * way)
        tubes += tree(rng, middle, twig, radius_mm * 0.5, generations - 2, spread)
    return tubes


def pipes(rng: np.random.Generator, warp: Warp) -> Pipes:
    """Draw all pipes of a patient in the atlas and deform them into the world."""
    drawn = {**_great_vessels(rng), **_organ_vessels(rng), **_gut(rng)}
    return Pipes(**{name: Tube.joined(tubes).moved(warp.to_world) for name, tubes in drawn.items()})


def _pipe(points, radii) -> Tube:
    return Tube.along(*curve(np.asarray(points, float), np.asarray(radii, float)))


def _great_vessels(rng: np.random.Generator) -> dict[str, list[Tube]]:
    artery = [
        _pipe([(-14, -24, 175), (-12, -21, 130), (-9, -14, 80), (-7, -8, 30), (-5, -6, -12), (-3, -9, -30)],
              [11, 11, 10, 9, 8.5, 8]),
        _pipe([(-8, -14, 92), (-6, 8, 90)], [3.6, 3.2]),  # coeliac trunk
        _pipe([(-6, 8, 90), (14, 16, 84), (32, 22, 72)], [2.6, 2.2, 1.9]),
        _pipe([(-6, 8, 90), (-30, -6, 96), (-58, -34, 90), (-84, -46, 82)], [3.0, 2.8, 2.4, 2.0]),
        _pipe([(-8, -12, 72), (-4, 10, 62), (2, 16, 30), (10, 14, -8), (24, 10, -38)], [4, 3.6, 3.2, 2.6, 1.8]),
        _pipe([(-7, -14, -2), (-16, -2, -14), (-36, -6, -46), (-40, -20, -80)], [2.2, 2.0, 1.7, 1.4]),
    ]  # fmt: skip
    vein = [
        _pipe([(20, -12, 140), (21, -16, 118), (20, -15, 70), (18, -12, 20), (16, -12, -20), (12, -18, -42)],
              [11, 12, 11.5, 11, 10, 10]),
    ]  # fmt: skip
    for side in (-1, 1):
        artery.append(_pipe([(-3, -9, -28), (side * 20, -19, -58), (side * 44, -22, -86), (side * 62, 8, -122),
                             (side * 72, 42, -168)], [6.5, 5.8, 5.0, 4.6, 4.4]))  # fmt: skip
        artery.append(_pipe([(side * 40, -22, -82), (side * 46, -46, -100), (side * 44, -52, -130)], [3.6, 3.2, 2.4]))
        vein.append(_pipe([(13, -17, -40), (side * 22 + 4, -29, -66), (side * 44, -32, -92), (side * 60, 0, -124),
                           (side * 66, 36, -168)], [8, 7.4, 6.6, 6, 5.6]))  # fmt: skip
        vein.append(_pipe([(side * 42, -32, -90), (side * 50, -50, -112), (side * 48, -58, -140)], [4.2, 3.6, 2.6]))
        artery += [  # lumbar pairs round the vertebrae
            _pipe([(side * 8 - 6, -28, z - 6), (side * 22, -34, z - 2), (side * 27, -50, z)], [1.3, 1.1, 0.8])
            for z in (101, 67, 32, -3)
        ]
        artery += tree(rng, (side * 66, 30, -150), (side * 60, 66, -90), 1.8, 3, 0.35)  # epigastric
    pulmonary = []
    for side, count in ((1, 12), (-1, 10)):
        for aim in rng.uniform((40, -85, 80), (125, 70, 150), size=(count, 3)):
            root = np.array((side * 42, -14, 196))
            pulmonary += tree(rng, root, root + 0.62 * (aim * (side, 1, 1) - root), 3.4, 4, 0.4)
    return {"artery": artery, "vein": vein, "pulmonary": pulmonary}


def _organ_vessels(rng: np.random.Generator) -> dict[str, list[Tube]]:
    cava = np.array((22, -14, 124))
    hepatic = []
    for aim, r in (((112, -8, 88), 5.6), ((66, 42, 92), 5.0), ((4, 58, 100), 4.4), ((96, -38, 66), 3.4)):
        hepatic += tree(rng, cava, 0.55 * np.array(aim) + 0.45 * cava, r, 5)
    portal = [_pipe([(6, 6, 46), (16, 8, 58), (28, 12, 72), (40, 14, 80)], [6.2, 6.6, 6.4, 5.6])]
    for aim, r in (((66, -2, 86), 4.8), ((62, 26, 62), 4.2), ((30, 40, 90), 4.0), ((70, -22, 56), 3.6)):
        portal += tree(rng, (40, 14, 78), aim, r, 5)
    portal += [
        _pipe([(6, 6, 48), (-26, 2, 62), (-56, -28, 80), (-84, -46, 84)], [4.6, 4.2, 3.8, 3.2]),
        _pipe([(6, 6, 46), (8, 16, 16), (14, 16, -14), (30, 14, -40)], [5.4, 4.8, 4, 2.6]),
    ]
    splenic = [t for aim in ((-102, -52, 108), (-106, -54, 84), (-98, -56, 62))
               for t in tree(rng, (-84, -46, 84), aim, 2.0, 3)]  # fmt: skip
    renal = []
    for side, x, z in ((-1, -66, 46), (1, 70, 34)):
        root = (-11, -16, 50) if side < 0 else (-3, -20, 46)
        hilum = (x - side * 22, -44, z)
        renal.append(_pipe([root, (side * 26, -32, z + 6), hilum], [3.0, 2.8, 2.5]))
        renal.append(_pipe([(17, -18, z + 4), (side * 28, -26, z - 1), (x - side * 20, -40, z - 5)], [4.2, 4.0, 3.4]))
        for aim in ((6, -4, 24), (12, 2, 2), (6, 2, -22)):
            renal += tree(rng, hilum, (x + side * aim[0] * 0.5, -52 + aim[1], z + aim[2] * 0.7), 1.9, 2, 0.6)
    mesenteric = []
    for aim in rng.uniform((-70, 20, -90), (84, 58, 24), size=(22, 3)):
        root = np.array((8, 15, 6)) + rng.normal(size=3) * (5, 2, 14)
        mesenteric += tree(rng, root, root + 0.55 * (aim - root), rng.uniform(1.6, 2.3), 3, 0.35)
    for aim in rng.uniform((-90, 56, -70), (90, 76, 10), size=(9, 3)):  # omentum
        mesenteric += tree(rng, (aim[0] * 0.8, 60, 32), aim, 1.3, 3, 0.3)
    return {"hepatic": hepatic, "portal": portal, "splenic": splenic, "renal": renal, "mesenteric": mesenteric}


def _gut(rng: np.random.Generator) -> dict[str, list[Tube]]:
    small = []
    for y, top, rows in ((56, 2, 4), (30, 6, 4), (6, -10, 4)):
        points, flip = [], 1
        for row in range(rows):
            z = top - 27 * row
            half, middle = (64 - 4 * row, -14) if y < 10 else (76 - 4 * row, 0)
            points += [
                (middle + flip * x, y + 7 * np.sin(x / 19 + row * 2.1), z + 9 * np.sin(x / 23 + row * 1.7 + y))
                for x in np.linspace(-half, half, 6)
            ]
            flip = -flip
        points = np.array(points) + rng.normal(size=(len(points), 3)) * (5, 4, 5)
        small.append(_pipe(points, rng.uniform(10.5, 15.0, size=len(points))))
    colon = [
        _pipe([(84, 10, -84), (92, 8, -62), (96, 0, -36), (97, -10, -8), (95, -8, 16), (90, 16, 30), (74, 50, 24),
               (42, 66, 14), (4, 68, 6), (-34, 64, 14), (-70, 46, 40), (-86, 14, 54), (-98, -18, 40), (-102, -30, 14),
               (-101, -26, -18), (-98, -12, -50), (-86, 4, -80), (-66, 4, -98), (-40, -8, -86), (-16, -22, -84)],
              [22, 25, 25, 24, 23, 22, 21, 20, 20, 19, 19, 18, 17, 16, 15, 15, 14, 14, 14, 14]),
    ]  # fmt: skip
    rectum = [
        _pipe([(-16, -22, -84), (4, -36, -98), (2, -52, -120), (0, -48, -146), (0, -40, -172)], [14, 15, 18, 17, 12])
    ]
    stomach = [
        _pipe([(-50, -12, 118), (-54, 8, 98), (-54, 30, 72), (-40, 46, 48), (-14, 52, 40), (14, 44, 48), (32, 32, 54)],
              [26, 31, 30, 25, 20, 15, 10]),
        _pipe([(32, 32, 54), (48, 18, 50), (52, 2, 30), (46, -6, 6), (22, -4, 0), (-8, -2, 2), (-30, 2, 18)],
              [11, 12, 13, 12, 12, 11, 11]),
    ]  # fmt: skip
    pancreas = [_pipe([(38, 6, 26), (34, 8, 38), (14, 18, 50), (-12, 20, 58), (-40, 2, 66), (-66, -24, 76)],
                      [11, 12.5, 9.5, 9.5, 9, 7])]  # fmt: skip
    ureter = [_pipe([(side * 46, -42, 30), (side * 44, -30, -10), (side * 46, -24, -60), (side * 50, -40, -104),
                     (side * 22, -8, -128)], 2.0 * np.ones(5)) for side in (-1, 1)]  # fmt: skip
    pelvic = {"rectum": rectum, "ureter": ureter}
    return {"small_bowel": small, "colon": colon, "stomach": stomach, "pancreas": pancreas, **pelvic}


def paint_tube(canvas: Canvas, tube: Tube, tissue: Tissue, within: np.ndarray | None = None) -> None:
    """Paint a solid pipe, optionally only inside a signed distance (mm) given on the whole canvas."""
    block = canvas.around(tube)
    if block is not None:
        distance = block.distance_mm
        block.paint_pipe(distance if within is None else np.maximum(distance, within[block.where]), tissue)


def liver(canvas: Canvas, inside: np.ndarray, below: np.ndarray, pipes: Pipes) -> None:
    """Paint liver, its veins and the gallbladder; `inside` and `below` bound the space (signed distances, mm)."""
    block = canvas.block((50, 12, 78), (108, 98, 88))
    if block is None:
        return
    x, y, z = block.x, block.y, block.z
    right = ellipsoid(x - 78, y + 6, z - 74, (66, 82, 80))
    left = ellipsoid(x - 6, y - 46, z - 96 - 0.12 * x, (78, 36, 34))
    shape = smooth_min(right, left, 26)
    shape = smooth_max(shape, -ellipsoid(x - 66, y + 50, z - 28, (42, 32, 58)), 8)  # the kidney's bed
    shape = smooth_max(shape, -(np.sqrt(np.square(x - 20) + np.square(y + 22)) - 13), 4)  # the cava's groove
    shape = smooth_max(shape, -ellipsoid(x - 12, y - 6, z - 44, (46, 30, 26)), 8)  # porta and duodenum
    fissure = np.maximum(np.abs(x - 14 - 0.15 * (z - 80) + 0.1 * y) - 1.5, np.maximum(z - 96 + 0.2 * y, 12 - y))
    shape = smooth_max(shape, -fissure, 2)
    shape = smooth_max(shape, inside[block.where] + 2.5, 3)
    shape = smooth_max(shape, below[block.where] + 3.0, 3)
    block.paint(shape - 0.5, CAPSULE)
    block.paint(shape + 0.4, LIVER)
    whole = np.full(canvas.shape, 50, np.float32)
    whole[block.where] = shape
    for tube in (pipes.portal, pipes.hepatic):
        inner = canvas.around(tube)
        if inner is not None:
            inner.paint_pipe(np.maximum(inner.distance_mm, whole[inner.where] + 2.5), VEIN)
    gall = canvas.block((52, 46, 40), (20, 20, 30))
    if gall is not None:
        u, v, w = gall.x - 52, gall.y - 46, gall.z - 40
        bag = ellipsoid(u + 0.2 * w, v + 0.35 * w, w, (13, 14, 27))
        gall.paint(bag - 1.5, GUT_WALL)
        gall.paint(bag, BILE)


def spleen(canvas: Canvas, inside: np.ndarray, below: np.ndarray, pipes: Pipes) -> None:
    """Paint the spleen and the vessels of its hilum."""
    block = canvas.block((-92, -44, 86), (46, 56, 60))
    if block is not None:
        u, v, w = block.x + 90, block.y + 46, block.z - 86
        shape = ellipsoid(u + 0.12 * w, v, w, (32, 48, 50))
        shape = smooth_max(shape, -ellipsoid(u - 33, v - 18, w + 2, (32, 46, 48)), 6)
        shape = smooth_max(shape, inside[block.where] + 2.5, 3)
        shape = smooth_max(shape, below[block.where] + 3.0, 3)
        shape = smooth_max(shape, -ellipsoid(block.x + 68, block.y + 54, block.z - 46, (37, 34, 62)), 5)
        shape = smooth_max(shape, -ellipsoid(u + 4, v - 40, w + 16, (14, 14, 3.0)), 1)
        block.paint(shape - 0.5, CAPSULE)
        block.paint(shape + 0.4, SPLEEN)
    paint_tube(canvas, pipes.splenic, VEIN, inside + 4)


def kidneys(canvas: Canvas, pipes: Pipes) -> None:
    """Paint both kidneys (cortex, pyramids, sinus, pelvis), adrenals and ureters."""
    for side, x, z in ((-1, -68, 46), (1, 72, 34)):
        block = canvas.block((x, -54, z), (42, 40, 66))
        if block is not None:
            _kidney(block, side, (x, -54, z))
        gland = canvas.block((x - side * 20, -38, z + 60), (26, 22, 26))
        if gland is not None:
            u, v, w = gland.x - x + side * 24, gland.y + 36, gland.z - z - 60
            limbs = np.abs(side * u * 0.8 + np.abs(v) * 0.9 - 5) - 2.2
            gland.paint(np.maximum(limbs, np.maximum(np.abs(v) - 11, np.abs(w) - 13)), Tissue(480, 0.05, 0.03))
    paint_tube(canvas, pipes.ureter, GUT_WALL)


def _kidney(block: Block, side: int, centre: tuple[float, float, float]) -> None:
    u, v, w = side * (block.x - centre[0]), block.y - centre[1], block.z - centre[2]
    u, w = u + 0.20 * w, w - 0.20 * u  # upper pole towards the spine
    u, v = 0.86 * u - 0.5 * v, 0.5 * u + 0.86 * v  # hilum forwards
    outer = ellipsoid(u, v, w, (28, 25, 53))
    outer = smooth_max(outer, -ellipsoid(u + 32, v - 4, w, (20, 16, 15)), 6)
    sinus = smooth_min(ellipsoid(u + 9, v - 1, w, (12, 10, 27)), ellipsoid(u + 24, v - 3, w, (16, 10, 13)), 6)
    block.paint(outer - 5.5 - 2 * block.texture("wide"), FAT)
    block.paint(outer, CORTEX)
    radius = np.sqrt(np.square(u + 7) / 28**2 + np.square(v) / 25**2 + np.square(w) / 53**2)
    pyramids = np.full(u.shape, 9.0, np.float32)
    for row, count, lift in ((-2, 4, -0.86), (-1, 6, -0.5), (0, 6, 0.0), (1, 6, 0.5), (2, 4, 0.86)):
        for piece in range(count):
            turn = (piece + 0.5 * (row % 2)) * 2 * math.pi / count + 0.35
            flat = math.sqrt(1 - lift * lift)
            axis = (flat * math.cos(turn), flat * math.sin(turn), lift)
            share = ((u + 7) / 28 * axis[0] + v / 25 * axis[1] + w / 53 * axis[2]) / np.maximum(radius, 0.05)
            off = np.sqrt(np.maximum(1 - share * share, 0)) * radius * 30 + 40 * (share < 0)
            pyramids = np.minimum(pyramids, off - 7.6 * np.clip(radius * 1.3 - 0.12, 0, 1))
    block.paint(smooth_max(smooth_max(pyramids, outer + 6.2, 2), -sinus - 0.5, 2), MEDULLA)
    block.paint(sinus, VISCERAL_FAT)
    pelvis = smooth_min(ellipsoid(u + 19, v - 3, w + 2, (10, 5, 8)), ellipsoid(u + 9, v - 1, w, (3.5, 3.5, 20)), 5)
    block.paint(np.maximum(pelvis - 1.2, outer), GUT_WALL)
    block.paint(np.maximum(pelvis, outer + 1), URINE)


def gut(canvas: Canvas, inside: np.ndarray, pipes: Pipes) -> None:
    """Paint pancreas, stomach and duodenum, colon and small bowel, with walls, folds, contents and gas."""
    pancreas = canvas.around(pipes.pancreas, 4)
    if pancreas is not None:
        lobes = 1.4 * pancreas.texture("web")
        shape = np.maximum(pancreas.distance_mm + 1.0 + lobes, inside[pancreas.where] + 2)
        pancreas.paint(shape, PANCREAS)
        duct = np.abs(pancreas.distance_mm + 9.3) - 0.8
        pancreas.paint(duct, URINE)
    _small_bowel(canvas, inside, pipes.small_bowel)
    _colon(canvas, inside, pipes.colon)
    stomach = canvas.around(pipes.stomach, 4)
    if stomach is not None:
        outer = np.maximum(stomach.distance_mm, inside[stomach.where] + 2)
        rugae = 3.4 * canvas.sheets("rugae", 3.0)[stomach.where]
        lumen = outer + 3.0 + rugae
        stomach.paint(outer, GUT_WALL)
        stomach.paint(lumen, CHYME)
        stomach.paint(smooth_max(lumen, 34 - stomach.y + 0.4 * stomach.texture("wide"), 1), GAS)


def _small_bowel(canvas: Canvas, inside: np.ndarray, tube: Tube) -> None:
    block = canvas.around(tube, 3)
    if block is None:
        return
    outer = np.maximum(block.distance_mm, inside[block.where] + 2)
    fold = np.maximum(np.cos(2 * np.pi / FOLD_MM * block.arc_mm + 1.2 * block.texture("wide")), 0) ** 3
    some = np.clip(0.5 + 0.8 * np.cos(block.arc_mm / 90), 0, 1)  # jejunum has more folds than ileum
    lumen = outer + 2.0 + 3.8 * fold * some
    block.paint(outer - 0.3, Tissue(330))
    block.paint(outer + 0.3, GUT_WALL)
    block.paint(lumen, CHYME)
    bubble = np.clip(np.cos(block.arc_mm / 61 + 2.0) * 14 - 8, -8, 6)  # gas here and there, at the front
    block.paint(smooth_max(lumen, 9 - bubble - block.height_mm - 3, 1), GAS)


def _colon(canvas: Canvas, inside: np.ndarray, tube: Tube) -> None:
    block = canvas.around(tube, 3)
    if block is None:
        return
    pouch = np.maximum(np.cos(2 * np.pi / HAUSTRUM_MM * block.arc_mm + 0.7 * block.texture("wide")), 0) ** 4
    outer = np.maximum(block.distance_mm + 4.2 * pouch, inside[block.where] + 2)
    block.paint(outer - 0.3, Tissue(330))
    block.paint(outer + 0.3, GUT_WALL)
    lumen = outer + 2.2 + 1.5 * pouch
    block.paint(lumen, STOOL)
    level = 5 + 9 * np.cos(block.arc_mm / 75)
    block.paint(smooth_max(lumen, level - block.height_mm, 1), GAS)


def bladder_distance(block: Block) -> np.ndarray:
    """Return the signed distance (mm) to the inner border of the bladder."""
    x, y, z = (axis - at for axis, at in zip((block.x, block.y, block.z), BLADDER_CENTRE_MM, strict=True))
    shape = ellipsoid(x, y, z, BLADDER_RADII_MM)
    return smooth_max(shape, z + 0.25 * y - 20, 14)


def pelvic_organs(canvas: Canvas, pipes: Pipes) -> None:
    """Paint rectum, bladder, seminal vesicles and prostate."""
    rectum = canvas.around(pipes.rectum, 3)
    if rectum is not None:
        rectum.paint(rectum.distance_mm, MUSCLE)
        rectum.paint(rectum.distance_mm + 1.5, GUT_WALL)
        rectum.paint(rectum.distance_mm + 3.4 + 1.5 * canvas.sheets("rugae", 3.0)[rectum.where], STOOL)
    gland = canvas.block((0, 2, -156), (34, 26, 26))
    if gland is not None:
        u, v, w = gland.x, gland.y - 2, gland.z + 160
        gland.paint(ellipsoid(u, v, w, (25, 18, 20)), PROSTATE)
        gland.paint(ellipsoid(u, v - 5, w - 3, (14, 10, 13)), Tissue(520, 0.12, 0.12))
        for side in (-1, 1):
            vesicle = ellipsoid(u - side * 17, v + 15 - 3, w - 22, (17, 6, 7))
            gland.paint(vesicle, Tissue(330))
            gland.paint(vesicle + 1.4 + 0.8 * gland.texture("web"), Tissue(230, 0.1))
    block = canvas.block(BLADDER_CENTRE_MM, 48)
    if block is not None:
        inner = bladder_distance(block)
        block.paint(inner - 4.0, VISCERAL_FAT)
        block.paint(inner - 3.2, Tissue(410, 0.06, 0.05))
        block.paint(inner, URINE)


def vessels(canvas: Canvas, deep: np.ndarray, pipes: Pipes) -> None:
    """Paint the great vessels and their branches, under the fat of the skin (`deep`, mm)."""
    for tube, tissue in ((pipes.vein, VEIN), (pipes.artery, BLOOD)):
        block = canvas.around(tube, 2)
        if block is not None:
            distance = np.maximum(block.distance_mm, deep[block.where] + 4)
            block.paint_pipe(distance - 1.0, CAPSULE)
            block.paint_pipe(distance, tissue)
