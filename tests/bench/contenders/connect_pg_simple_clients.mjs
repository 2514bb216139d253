// Sixteen clients of connect-pg-simple: get or set, each a session of its own, for some seconds. Says how many a second.
import connect from 'connect-pg-simple'
import session from 'express-session'
import pg from 'pg'

const [operation, seconds] = [process.argv[2], Number(process.argv[3])]
const Store = connect(session)
const pool = new pg.Pool({ connectionString: process.env.STORE_URL, max: 16 })
const store = new Store({ pool, pruneSessionInterval: false, disableTouch: true })
const kept = { cookie: { maxAge: 86400000 }, current_model_name: 'a model', visits: 0, recent: ['one', 'two', 'three'] }

const get = (id) => new Promise((resolve, reject) => store.get(id, (error, found) => (error ? reject(error) : resolve(found))))
const set = (id, data) => new Promise((resolve, reject) => store.set(id, data, (error) => (error ? reject(error) : resolve())))

async function load(forSeconds) {
  let count = 0
  const began = performance.now()
  const ends = began + 1000 * forSeconds
  await Promise.all(
    Array.from({ length: 16 }, async (_, client) => {
      for (let visits = 0; performance.now() < ends; visits++, count++) {
        if (operation === 'get') await get(`client ${client}`)
        else await set(`client ${client}`, { ...kept, visits })
      }
    })
  )
  return (1000 * count) / (performance.now() - began)
}

await Promise.all(Array.from({ length: 16 }, (_, client) => set(`client ${client}`, kept)))
await load(0.3)
console.log(JSON.stringify({ per_second: await load(seconds) }))
process.exit()
