// A Node server that activates sessions by the same function as Lull's API, through supabase-js.
import { createServer } from 'node:http'
import { createClient } from '@supabase/supabase-js'

const { SUPABASE_URL, SUPABASE_SECRET_KEY, SERVICE_SECRET, PORT } = process.env
const supabase = createClient(SUPABASE_URL, SUPABASE_SECRET_KEY, { auth: { persistSession: false } })
const route = /^\/api\/sessions\/([0-9a-f-]{36})\/activate$/

createServer(async (request, response) => {
  const answer = (status, body) => {
    response.writeHead(status, { 'content-type': 'application/json' })
    response.end(JSON.stringify(body))
  }
  const match = route.exec(request.url)
  if (request.method !== 'POST' || !match) return answer(404, {})
  if (request.headers.authorization !== `Bearer ${SERVICE_SECRET}`) return answer(401, {})
  const { data, error } = await supabase.rpc('lull_activate_session', {
    p_session: match[1],
    p_caller: { service: true },
  })
  if (error) return answer(500, error)
  answer(200, { session: data.session })
}).listen(Number(PORT), '127.0.0.1')
