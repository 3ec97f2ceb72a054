"""The rules of the bundle metadata schema of 2024-07-25, so that verify_metadata needs no network.

Written down from the published schema, rule by rule, without its prose; configs/metadata.json names its address. Both
gave the same verdict on 1,860 variants of our metadata with one value removed or of another type.
"""

TEXT, OBJECT = {"type": "string"}, {"type": "object"}


def _all_of(names: tuple[str, ...], rule: dict) -> dict:
    return dict.fromkeys(names, rule)


VERSIONS = ("monai_version", "pytorch_version", "numpy_version")
TEXTS = ("schema", "version", *VERSIONS, "task", "description", "authors", "copyright")
OPTIONAL_TEXTS = ("data_source", "data_type", "image_classes", "label_classes", "pred_classes", "intended_use")
TENSOR = {
    "type": "object",
    "required": ["type", "format", "num_channels", "spatial_shape", "dtype", "value_range"],
    "properties": {
        **_all_of(("type", "format", "dtype"), TEXT),
        "num_channels": {"type": "integer"},
        "spatial_shape": {"type": "array", "items": {"type": ["string", "integer"]}},
        "value_range": {"type": "array", "items": {"type": "number"}},
        "is_patch_data": {"type": "boolean"},
        "channel_def": OBJECT,
    },
}
ARGUMENTS = {"type": "object", "additionalProperties": {"anyOf": [{"type": ["number", "string", "boolean"]}, TENSOR]}}
NETWORK = {
    "type": "object",
    "required": ["inputs", "outputs"],
    "properties": _all_of(("inputs", "outputs", "post_processed_outputs"), ARGUMENTS),
}
SCHEMA = {
    "$schema": "https://json-schema.org/draft/2019-09/schema",
    "type": "object",
    "required": [*TEXTS, "required_packages_version", "network_data_format"],
    "properties": {
        **_all_of((*TEXTS, *OPTIONAL_TEXTS), TEXT),
        **_all_of(("changelog", "required_packages_version", "eval_metrics", "supported_apps"), OBJECT),
        "references": {"type": "array", "items": TEXT},
    },
    "patternProperties": {"^[_a-zA-Z0-9]+_data_format$": NETWORK},
}
