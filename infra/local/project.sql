-- What a hosted Supabase project has beside its roles, as far as an app's own schema refers to it: users and the
-- functions of schema auth, schema extensions, and a reload of PostgREST's schema after DDL. Run on every start;
-- changes nothing twice. No users sign in here: rows of auth.users are yours to insert.

create schema if not exists auth;
create schema if not exists extensions;
grant usage on schema auth, extensions to anon, authenticated, service_role;

create table if not exists auth.users (
  instance_id uuid,
  id uuid primary key default gen_random_uuid(),
  aud text default 'authenticated',
  role text default 'authenticated',
  email text unique,
  phone text unique,
  encrypted_password text,
  email_confirmed_at timestamptz,
  last_sign_in_at timestamptz,
  raw_app_meta_data jsonb default '{}',
  raw_user_meta_data jsonb default '{}',
  is_super_admin boolean,
  is_anonymous boolean not null default false,
  banned_until timestamptz,
  deleted_at timestamptz,
  created_at timestamptz default now(),
  updated_at timestamptz default now()
);
alter table auth.users enable row level security;
grant all on auth.users to service_role;

-- The claims of the request's token, as PostgREST sets them; null outside of a request.
create or replace function auth.jwt()
returns jsonb
language sql
stable
as $$
  select nullif(current_setting('request.jwt.claims', true), '')::jsonb
$$;

-- The user whose token the request carries; null without one.
create or replace function auth.uid()
returns uuid
language sql
stable
as $$
  select (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid
$$;

-- The role that the request's token names.
create or replace function auth.role()
returns text
language sql
stable
as $$
  select nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role'
$$;

-- The address of the user whose token the request carries.
create or replace function auth.email()
returns text
language sql
stable
as $$
  select nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'email'
$$;

-- The embedded Postgres has no uuid-ossp: this is the function of it that schemas use.
create or replace function extensions.uuid_generate_v4()
returns uuid
language sql
volatile
as $$
  select gen_random_uuid()
$$;

do $$
begin
  execute format('alter database %I set search_path = "$user", public, extensions', current_database());
end
$$;

-- Tell PostgREST to read the schema again, after DDL on anything but temporary objects.
create or replace function extensions.reload_after_ddl()
returns event_trigger
language plpgsql
as $$
begin
  if exists (select 1 from pg_event_trigger_ddl_commands() c where c.schema_name is distinct from 'pg_temp') then
    notify pgrst, 'reload schema';
  end if;
end
$$;

create or replace function extensions.reload_after_drop()
returns event_trigger
language plpgsql
as $$
begin
  if exists (select 1 from pg_event_trigger_dropped_objects() d where not d.is_temporary) then
    notify pgrst, 'reload schema';
  end if;
end
$$;

do $$
begin
  if not exists (select 1 from pg_event_trigger where evtname = 'reload_after_ddl') then
    create event trigger reload_after_ddl on ddl_command_end execute function extensions.reload_after_ddl();
    create event trigger reload_after_drop on sql_drop execute function extensions.reload_after_drop();
  end if;
end
$$;
