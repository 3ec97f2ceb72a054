"""`EvaluatedCase`: one case of an evaluation, a row of cases.json, with the outcome of each method."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

from ..data.acceptance import ScanProtocol
from ..run.record import DONE, FAILED


@dataclass
class MethodOutcome:
    """How a method ended on a case.

    Attributes:
        seconds: that our inference took; None for other methods.
        status: "done", "failed", or None where the result is not scored yet.
        reason: why it failed, in one line.
    """

    seconds: float | None = None
    status: str | None = None
    reason: str | None = None

    def as_row(self) -> dict:
        """Return the known values for cases.json.

        >>> MethodOutcome(status="done").as_row()
        {'status': 'done', 'reason': None}
        """
        timed = {} if self.seconds is None else {"seconds": self.seconds}
        ended = {} if self.status is None else {"status": self.status, "reason": self.reason}
        return timed | ended


@dataclass(frozen=True)
class UndefinedMeasure:
    """A measure that has no value for a method, and why: for example too few slices for a spectrum."""

    method: str
    measure: str
    reason: str


@dataclass
class EvaluatedCase:
    """A case from its scan to its scores; each step of the evaluation fills in its own part.

    `EvaluationScans` makes it and describes the scan: name to noise; of a scan that was not simulated only name, source
    and truth. `InterpolatedMethods` completes it from the scan's header (`complete_from_header`). `Scoring` sets the
    window. `EvaluationRecord` alone notes how the case and its methods ended: status, reason, methods, undefined.

    Attributes:
        name: of the case, and of its files.
        source: name of the scan that it comes from; one scan can be simulated with several protocols.
        truth: whether the true volume is known.
        factor: slice spacing over the isotropic spacing.
        profile: the true slice profile; for a scan that was not simulated the assumed one.
        assumed_profile: the profile that the methods assume.
        protocol: the profile and whatever else distinguishes the acquisition, as "rect noise0.03".
        thickness_over_spacing: slice thickness over slice spacing.
        noise: standard deviation of the simulated noise on the intensity scale (0 to 1).
        stacks: through-plane axes of the stacks in RAS order, the reference first; None: one stack.
        through_plane_axis: array axis of the scan, 0 to 2.
        spacing_mm: of the isotropic grid on which the methods are compared, one for each axis.
        sampled: whether the inference sampled zero-filled planes at the pixels that were acquired.
        slice_spacing_mm: from centre to centre.
        slice_thickness_mm: full width at half maximum of the profile.
        window: intensities shown as black and white, in the scan's units.
        status: "done", "failed", or None while it is being evaluated.
        reason: why it failed, in one line.
        methods: outcome of each method that was tried.
        undefined: measures without a value.
    """

    name: str
    source: str = ""
    truth: bool = False
    factor: float | None = None
    profile: str | None = None
    assumed_profile: str | None = None
    protocol: str | None = None
    thickness_over_spacing: float | None = None
    noise: float | None = None
    stacks: list[int] | None = None
    through_plane_axis: int | None = None
    spacing_mm: list[float] | None = None
    sampled: bool = False
    slice_spacing_mm: float | None = None
    slice_thickness_mm: float | None = None
    window: list[float] | None = None
    status: str | None = None
    reason: str | None = None
    methods: dict[str, MethodOutcome] = field(default_factory=dict)
    undefined: list[UndefinedMeasure] = field(default_factory=list)

    def __post_init__(self):
        self.source = self.source or self.name

    @classmethod
    def of(cls, row: Mapping) -> "EvaluatedCase":
        """Return the case of a row of cases.json; what a row leaves out is as for a new case.

        >>> case = EvaluatedCase.of({"case": "knee", "methods": {"GLADE": {"status": "done"}}})
        >>> case.source, case.has_done("GLADE"), case.factor
        ('knee', True, None)
        """
        known = {own.name: row[own.name] for own in fields(cls) if own.name in row}
        methods = {name: MethodOutcome(**outcome) for name, outcome in known.pop("methods", {}).items()}
        undefined = [UndefinedMeasure(**note) for note in known.pop("undefined", [])]
        return cls(**{**known, "name": row["case"]}, methods=methods, undefined=undefined)

    def complete_from_header(self, protocol: ScanProtocol, spacing_mm: Sequence[float], sampled: bool = False) -> None:
        """Fill in what the inference's preprocessing read in the scan; the true values of a simulation are kept.

        Args:
            protocol: that the methods assume.
            spacing_mm: of the isotropic grid, one for each axis.
            sampled: as the attribute.
        """
        self.sampled = sampled
        self.through_plane_axis = protocol.through_plane_axis
        self.spacing_mm = [float(spacing) for spacing in spacing_mm]
        self.slice_spacing_mm = protocol.slice_spacing_mm
        self.assumed_profile = protocol.profile
        if self.profile is None:  # not simulated: what is assumed is all that is known
            self.profile = self.protocol = protocol.profile
            self.slice_thickness_mm = protocol.slice_thickness_mm
            self.factor = self.slice_spacing_mm / self.spacing_mm[self.through_plane_axis]
            self.thickness_over_spacing = self.slice_thickness_mm / self.slice_spacing_mm

    def outcome(self, method: str) -> MethodOutcome:
        """Return the outcome of a method, a new one where nothing is known of it yet."""
        return self.methods.setdefault(method, MethodOutcome())

    def has_done(self, method: str) -> bool:
        """Whether the method's result was scored."""
        return method in self.methods and self.methods[method].status == DONE

    def has_failed(self, method: str) -> bool:
        """Whether the method has no result that can be scored."""
        return method in self.methods and self.methods[method].status == FAILED

    def as_row(self) -> dict:
        """Return the row for cases.json.

        >>> row = EvaluatedCase("knee_4x", source="knee", truth=True).as_row()
        >>> row["case"], row["source"], row["status"], row["methods"]
        ('knee_4x', 'knee', None, {})
        """
        row = {own.name: getattr(self, own.name) for own in fields(self)}
        methods = {method: outcome.as_row() for method, outcome in self.methods.items()}
        return {"case": row.pop("name"), **row, "methods": methods, "undefined": [vars(u) for u in self.undefined]}
