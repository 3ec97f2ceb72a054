// Restores what scripts/reports/packing.py packed: a Uint8Array or Uint16Array in the order of the array.
async function unpack(text, { shape, bytes, axes }) {
  const split = await inflate(text);
  const size = split.length / bytes, values = bytes === 1 ? split : new Uint16Array(size);
  if (bytes === 2) for (let i = 0; i < size; i++) values[i] = split[i] + (split[size + i] << 8);
  for (const axis of [...axes].reverse()) {
    const stride = shape.slice(axis + 1).reduce((a, b) => a * b, 1), block = stride * shape[axis];
    for (let start = 0; start < size; start += block) {
      for (let i = start + stride; i < start + block; i++) values[i] += values[i - stride];
    }
  }
  return values;
}
async function inflate(text) {
  const packed = atob(text), bytes = new Uint8Array(packed.length);
  for (let i = 0; i < packed.length; i++) bytes[i] = packed.charCodeAt(i);
  const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(plain).arrayBuffer());
}
