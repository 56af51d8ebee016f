// Questions to the server. Whatever goes wrong becomes an Error whose message is a sentence for people.

async function answer(address, options) {
  let response;
  try {
    response = await fetch(address, options);
  } catch {
    throw new Error("The server does not answer: has the command been stopped?");
  }
  if (response.ok) return response;
  const told = await response.json().catch(() => null);
  throw new Error(told ? told.error : "The server met a fault of its own: its terminal tells which.");
}

export const json = async (address) => (await answer(address)).json();

export const bitmap = async (address) => createImageBitmap(await (await answer(address)).blob());

// {about, bytes}: a description, and the numbers behind it, which begin at a multiple of 4 bytes.
export async function framed(address) {
  const buffer = await (await answer(address)).arrayBuffer();
  const length = new DataView(buffer).getUint32(0, true);
  const about = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  return { about, buffer, start: 4 + length };
}

export async function labels(address) {
  const { about, buffer, start } = await framed(address);
  const Numbers = about.bytes === 1 ? Uint8Array : Int16Array;
  return { ...about, data: new Numbers(buffer, start, about.width * about.height) };
}

export async function attention(address, layers) {
  const { about, buffer, start } = await framed(address);
  const [height, width] = about.grid;
  let offset = start;
  const maps = layers.map(({ heads }) =>
    Array.from({ length: heads }, () => {
      const one = new Float32Array(buffer, offset, height * width);
      offset += one.byteLength;
      return one;
    }),
  );
  return { ...about, maps };
}

export async function upload(file) {
  const response = await answer(`/pictures?name=${encodeURIComponent(file.name)}`, { method: "PUT", body: file });
  return response.json();
}

// Runs one task at a time; of those that come meanwhile, the last one only.
export function latest(task) {
  let running = false;
  let next = null;
  return async function ask(...words) {
    next = words;
    if (running) return;
    running = true;
    try {
      while (next) {
        const now = next;
        next = null;
        await task(...now);
      }
    } finally {
      running = false;
    }
  };
}
