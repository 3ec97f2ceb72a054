"""Words of acquisition protocols that a case name may repeat; whatever else a series description holds may be a name.

Words of one letter and words that are common names of people (Black, Bravo, Ge, Pace) are not among them.
"""

import re
import unicodedata
from collections.abc import Collection

PROTOCOL_WORDS = frozenset(
    " ".join(
        (
            # contrast
            "t1 t2 t1w t2w t1wi t2wi t2star t2s pd pdw pdt2 qt2 flair stir dwi dti dsi adc asl bold fmri swi swan",
            "vibrant perf perfusion diffusion diff trace tracew mra mrv mrcp tof pca mrs lge irm mrm mri ctmr",
            # sequences
            "se fse tse hse sse ffse turbo spin echo echos multiecho gradient gre ffe tfe ttfe fgre fspgr spgr",
            "flash vibe lava thrive blade propeller multivane haste ssfse sshtse ssh fiesta trufi truefisp bffe btfe",
            "bssfp ssfp ciss space cube vista dess medic merge mprage mp2rage tfl ir epi ep2d ep3d dixon mdixon ideal",
            "flex qdixon rare turborare grase gmn radial spiral resolve zoomit fov rfov cine tagging",
            # dimensions, planes, coverage
            "2d 3d 4d ax axial tra transv transverse transversal cor coronal sag sagittal obl oblique para paraxial",
            "localizer localiser loc scout survey topogram",
            # preparation of fat, water, blood, magnetisation
            "fs fatsat fat sat spair spir water wfs db bb mt mtc ir tirm chess supp suppressed",
            "in opp out phase inphase opphase ip op",
            # contrast agent and time
            "+c +gd +km pre post gd contrast native dyn dynamic dce dsc arterial venous portal delayed late early hbp",
            # motion
            "bh breathhold nav triggered trig gated resp breathing fb",
            # anatomy
            "brain head skull neck face orbit orbits pituitary sella iac ear tmj spine cspine tspine lspine cervical",
            "thoracic lumbar sacrum thorax chest lung heart cardiac aorta breast mamma shoulder elbow wrist hand hip",
            "knee ankle foot leg thigh calf abdomen abdominal liver pancreas kidney kidneys renal adrenal spleen bowel",
            "rectum pelvis pelvic prostate bladder uterus cervix ovary fetus fetal placenta hippocampus",
            "wholebody body bilateral left right upper lower mouse rat phantom",
            # directions and kinds of image
            "lr rl hf fh magnitude phase real imaginary norm nd dis2d dis3d raw mip mpr map maps",
            # quality
            "hr highres hires iso isotropic thin thick grappa sense caipi sms mb",
            "test repeat rpt copy split combined",
        )
    ).split()
)
"""Contrasts, sequences, planes, preparations, body parts, in lower case."""
WORD = re.compile(r"\+\s?(?:c|gd|km)(?![^\W_])|[^\W_]+", re.IGNORECASE)
"""A word of a description: letters and digits of any alphabet; or a contrast agent, as in T1+C."""


def words_of(text: str) -> list[str]:
    """Return the words of a text; +C, +Gd and +KM are words of their own.

    >>> words_of("t1_vibe_fs +C (Müller-Lüdenscheidt)")
    ['t1', 'vibe', 'fs', '+C', 'Müller', 'Lüdenscheidt']
    """
    return [word.replace(" ", "") for word in WORD.findall(text)]


def protocol_words(text: str, names: Collection[str] = ()) -> str:
    """Return the protocol words of a description, joined by underscores; "" where it has none.

    Args:
        text: SeriesDescription or ProtocolName.
        names: words of the patient's name and number, in any spelling: they are left out even where they are also
            protocol words.

    >>> protocol_words("T2 TSE cor FS 320 (Mueller 3.2.1970)"), protocol_words("CorMueller 4711")
    ('T2_TSE_cor_FS', '')
    >>> protocol_words("T2 Heart", names=["Heart"])
    'T2'
    """
    person = {plain(word) for name in names for word in words_of(name)}
    return "_".join(word for word in words_of(text) if word.lower() in PROTOCOL_WORDS and plain(word) not in person)


def plain(word: str) -> str:
    """Return a word in lower case without accents.

    >>> plain("Mütze")
    'mutze'
    """
    return unicodedata.normalize("NFKD", word).encode("ascii", "ignore").decode().lower()
