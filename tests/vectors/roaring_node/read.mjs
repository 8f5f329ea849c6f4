// Reads a list's bytes from standard input with roaring-wasm, and prints how many keys it found and
// the SHA-256 of all of them as little-endian 64-bit words, ascending.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";

import { RoaringBitmap32, roaringLibraryInitialize } from "roaring-wasm";

await roaringLibraryInitialize();

const octets = readFileSync(0);
const seen = createHash("sha256");
let at = 8;
let count = 0;
for (let buckets = octets.readBigUInt64LE(0); buckets > 0n; buckets--) {
  const high = octets.readUInt32LE(at);
  at += 4;
  const bitmap = RoaringBitmap32.deserialize("portable", octets.subarray(at));
  at += bitmap.getSerializationSizeInBytes("portable");
  const keys = bitmap.toUint32Array();
  const words = Buffer.alloc(8 * keys.length);
  keys.forEach((low, place) => {
    words.writeUInt32LE(low, 8 * place);
    words.writeUInt32LE(high, 8 * place + 4);
  });
  seen.update(words);
  count += keys.length;
  bitmap.dispose();
}
if (at !== octets.length) {
  throw new Error(`${octets.length - at} bytes left over`);
}
process.stdout.write(JSON.stringify({ count, sha256: seen.digest("base64") }) + "\n");
