// How a contender's process talks with the runner: ready, a line to go, what it measured, end of input to go away.
import { createInterface } from 'node:readline'

export async function takePart(work) {
  const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
  console.log('ready')
  if ((await lines.next()).done) return
  const began = performance.now()
  await work()
  console.log(JSON.stringify({ seconds: (performance.now() - began) / 1000 }))
  await lines.next()
  process.exit()
}
