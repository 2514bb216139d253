// connect-pg-simple's own prune, on its own table (Express' sessions in Postgres).
import connect from 'connect-pg-simple'
import session from 'express-session'
import { takePart } from './conversation.mjs'

const Store = connect(session)
const store = new Store({ conString: process.env.DATABASE_URL, pruneSessionInterval: false })
await new Promise((resolve) => store.get('nobody', resolve)) // opens the connection

await takePart(() => new Promise((resolve, reject) => store.pruneSessions((error) => (error ? reject(error) : resolve()))))
