-- Operators: people who sign in with Supabase Auth, and what their role lets them do. The secret
-- key stays above them: it is for CI, edge functions and the first admin.

create table if not exists crossfade.operators (
  user_id text primary key,
  email text,
  role text not null,
  added_at timestamptz not null default clock_timestamp(),
  added_by text not null default 'crossfade',
  updated_at timestamptz not null default clock_timestamp(),
  updated_by text not null default 'crossfade',
  constraint user_id_is_short_and_visible check (user_id ~ '^[^[:space:][:cntrl:]]{1,200}$'),
  constraint role_is_known check (role in ('viewer', 'operator', 'admin'))
);

create unique index if not exists operators_email_idx on crossfade.operators (lower(email));

comment on table crossfade.operators is
  'Who may operate crossfade with a sign-in of their own. Read at every request, so that a removal acts at once. Changed by functions only.';
comment on column crossfade.operators.user_id is
  'Claim sub of the access token. Text, because a third-party sign-in need not use UUIDs; no foreign key, because of that and because auth may be absent.';
comment on column crossfade.operators.email is
  'The address when they were added; audit rows show it. Null when they were added by id and Auth does not know them.';
