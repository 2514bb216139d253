// supabase-js as a cron route commonly does it: select ids (1000 is the most that an answer has), delete them in chunks
// that fit into an address, until there are none. Children go by their cascades.
import { createClient } from '@supabase/supabase-js'
import { takePart } from './conversation.mjs'

const { SUPABASE_URL, SUPABASE_SECRET_KEY, CUTOFF, LIMIT = 'Infinity' } = process.env
const CHUNK = 100
const supabase = createClient(SUPABASE_URL, SUPABASE_SECRET_KEY, { auth: { persistSession: false } })

const stale = () =>
  supabase
    .from('plain_sessions')
    .select('id')
    .eq('kind', 'chat')
    .eq('status', 'draft')
    .is('first_message_at', null)
    .lt('last_activity_at', CUTOFF)
    .limit(1000)
    .throwOnError()

async function clean() {
  for (let deleted = 0; deleted < Number(LIMIT); ) {
    const ids = (await stale()).data.map((row) => row.id)
    if (ids.length === 0) return
    for (let i = 0; i < ids.length; i += CHUNK) {
      await supabase.from('plain_sessions').delete().in('id', ids.slice(i, i + CHUNK)).throwOnError()
    }
    deleted += ids.length
  }
}

await supabase.from('plain_sessions').select('id').limit(1).throwOnError()
await takePart(clean)
