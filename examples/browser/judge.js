// Beats judged in a browser, or in Node, by a model file of ecgwatch and ONNX Runtime Web (npm install onnxruntime-web).
//
// A model file describes itself: its metadata "ecgwatch" name the classes, the threshold, and what its inputs are
// (docs/EXTENDING.md). Cutting the windows is up to the caller: monitor/beat.py and monitor/beat2.py say how.

/**
 * Open a model.
 * @param {any} ort ONNX Runtime Web, as it was imported
 * @param {string | Uint8Array} model address of the file, or its bytes
 */
export async function openModel(ort, model) {
  ort.env.wasm.numThreads = 1; // a beat takes a fraction of a millisecond, and threads need special headers
  return ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
}

/**
 * Judge beats: one array of floats for each of the model's inputs, all beats one after the other.
 * @param {any} ort
 * @param {any} session of `openModel`
 * @param {Record<string, { data: Float32Array, shape: number[] }>} inputs by name; a shape begins with the beats
 * @returns {Promise<{ data: Float32Array, shape: number[] }>} probability of each class for each beat
 */
export async function judge(ort, session, inputs) {
  const feeds = Object.fromEntries(
    Object.entries(inputs).map(([name, one]) => [name, new ort.Tensor("float32", one.data, one.shape)]),
  );
  const { [session.outputNames[0]]: answer } = await session.run(feeds);
  return { data: answer.data, shape: [...answer.dims] };
}

/**
 * Decide as the monitor does: from the threshold on a beat is not normal, and of the most probable other class.
 * @param {{ data: Float32Array, shape: number[] }} answer of `judge`
 * @param {number} threshold of the model's metadata
 * @returns {number[]} position of each beat's class
 */
export function decide({ data, shape: [beats, classes] }, threshold) {
  return Array.from({ length: beats }, (_, beat) => {
    const row = data.subarray(beat * classes, (beat + 1) * classes);
    const abnormal = Math.min(1, Math.max(0, Math.fround(1 - row[0])));
    if (!(abnormal >= threshold)) return 0;
    return 1 + row.subarray(1).reduce((best, value, k, others) => (value > others[best] ? k : best), 0);
  });
}
