-- crossfade 0.2.0. Made of sql/schema by: make migration

-- base/schemas.sql --------------------------------------------------------------------------------

-- The two schemas. Applies to an empty project, and over itself without change.

do $$
begin
  if to_regclass('crossfade.control') is null then
    return;
  end if;
  if (select c.schema_version < 2 from crossfade.control c) then
    raise exception
      'crossfade 0.1.0 is installed, which this version cannot take over: run crossfade uninstall first'
      using hint = 'Run: crossfade uninstall, apply what it writes, then install again.';
  end if;
end $$;

-- Functions may use columns that a release adds at its end (refresh.sql).
do $$
begin
  perform set_config('check_function_bodies', 'off', true);
end $$;

create schema if not exists crossfade;
create schema if not exists crossfade_private;

comment on schema crossfade is
  'crossfade: tables and RPC functions that the control plane and edge functions use. Expose it to the Data API.';
comment on schema crossfade_private is
  'crossfade: trigger functions, generated code and helpers. Never expose it.';

-- base/holding.sql --------------------------------------------------------------------------------

-- Batches wait while a release is installed: a migration locks tables of crossfade until it
-- commits, and at its end those of every pair. A batch that has written one of these and waits for
-- one of those would deadlock with it.

create or replace function crossfade_private.release_lock_key()
returns bigint
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
  select 7161727193022002::bigint;
$$;

comment on function crossfade_private.release_lock_key is
  'Advisory lock: batches hold it shared, a migration exclusively.';

create or replace function crossfade_private.hold_batches()
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '15s'
as $$
begin
  perform pg_advisory_xact_lock(crossfade_private.release_lock_key());
exception when lock_not_available then
  raise warning 'crossfade: a batch has not ended in 15 s, the release is installed beside it';
end $$;

comment on function crossfade_private.hold_batches is
  'Wait for the batches that have begun, and let none begin until the transaction ends: they say so and try again.';

do $$
begin
  perform crossfade_private.hold_batches();
end $$;

-- base/clean_up.sql -------------------------------------------------------------------------------

-- What an older release had and this one has not. Before everything else: a function that is left
-- beside its successor of other parameters would make calls and comments ambiguous.

create or replace function crossfade_private.drop_left_behind()
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_names constant text := coalesce(current_setting('crossfade.release_functions', true), '');
  v_made constant text := '^mirror_.+_v[12]_[a-z]+$';
  v_kept oid[] := '{}'::oid[];
  v_name text;
  v_gone record;
begin
  -- Outside the one transaction of a migration the list is not there.
  if v_names = '' then
    return;
  end if;
  for v_name in
    select substr(f.line, 4) from string_to_table(v_names, e'\n') f (line) where f.line like '-- %'
  loop
    begin
      v_kept := v_kept || coalesce(to_regprocedure(v_name)::oid, 0::oid);
    exception when undefined_object or invalid_schema_name then
      -- PostgreSQL 15 says so when a type is not there yet, and then the function is not either.
      null;
    end;
  end loop;
  -- Triggers first, and callers before what they call: PostgreSQL keeps what is still needed.
  for v_gone in
    with recursive needed (id) as (
      -- SAFETY: while a pair has the mirror of an older release, its writers need what that calls,
      -- and what these call. A function that this release has gets its new text before the commit.
      select g.oid from pg_catalog.pg_proc g
      where g.pronamespace = 'crossfade_private'::regnamespace and g.proname ~ v_made
      union
      select t.tgfoid
      from pg_catalog.pg_trigger t
      join pg_catalog.pg_class c on c.oid = t.tgrelid
      where t.tgfoid <> all (v_kept)
        and c.relnamespace not in ('crossfade'::regnamespace, 'crossfade_private'::regnamespace)
      union
      select p.oid
      from needed n
      join pg_catalog.pg_proc g on g.oid = n.id
      join pg_catalog.pg_proc p on p.oid <> all (v_kept)
        and p.pronamespace in ('crossfade'::regnamespace, 'crossfade_private'::regnamespace)
        and strpos(g.prosrc, format('%s.%s(', p.pronamespace::regnamespace, p.proname)) > 0
    )
    select format('drop trigger %I on %s', t.tgname, t.tgrelid::regclass) as statement,
      0 as rank, t.oid as made
    from pg_catalog.pg_trigger t
    join pg_catalog.pg_class c on c.oid = t.tgrelid
    where not t.tgisinternal and t.tgfoid <> all (v_kept)
      and c.relnamespace in ('crossfade'::regnamespace, 'crossfade_private'::regnamespace)
    union all
    select format('drop routine %s', p.oid::regprocedure), 1, p.oid
    from pg_catalog.pg_proc p
    where p.oid <> all (v_kept) and p.oid not in (select n.id from needed n)
      and p.pronamespace in ('crossfade'::regnamespace, 'crossfade_private'::regnamespace)
    order by rank, made desc
  loop
    execute v_gone.statement;
  end loop;
end $$;

comment on function crossfade_private.drop_left_behind is
  'Drop functions of crossfade, and triggers of its own tables, that this release does not have and that no pair''s mirror needs.';

-- `make migration` writes every function of this release here.
do $$
begin
  perform set_config('crossfade.release_functions', $functions$
-- crossfade_private.release_lock_key()
-- crossfade_private.hold_batches()
-- crossfade_private.drop_left_behind()
-- crossfade_private.actor_id()
-- crossfade_private.actor()
-- crossfade_private.fail(integer, text, text, jsonb, text, text)
-- crossfade_private.set_reason(text)
-- crossfade_private.reason()
-- crossfade_private.require_reason(text, text)
-- crossfade.flags_version()
-- crossfade_private.bump_version()
-- crossfade_private.audit(text, text, text, jsonb, jsonb)
-- crossfade_private.broadcast(text, jsonb)
-- crossfade_private.on_control_change()
-- crossfade_private.before_control_change()
-- crossfade_private.stamp_row()
-- crossfade_private.setting(text)
-- crossfade_private.setting_text(text)
-- crossfade_private.setting_number(text)
-- crossfade_private.parse_setting(text, text, text)
-- crossfade.set_setting(text, text, text)
-- crossfade_private.quantile_ms(bigint[], double precision)
-- crossfade_private.is_api_user()
-- crossfade_private.operator_role()
-- crossfade_private.has_role(text)
-- crossfade_private.require_role(text, text)
-- crossfade_private.check_percentage(jsonb)
-- crossfade_private.check_changes(text, jsonb, jsonb)
-- crossfade.set_flag(text, jsonb, text)
-- crossfade.bucket(text, text)
-- crossfade_private.unit(jsonb)
-- crossfade_private.flag_rules(crossfade.flags, jsonb, boolean)
-- crossfade.explain_flag(text, jsonb)
-- crossfade.evaluate_flag(text, jsonb)
-- crossfade_private.fence_lock_key()
-- crossfade_private.fence_engaged(text)
-- crossfade_private.close_fence()
-- crossfade_private.before_kill_switch_change()
-- crossfade_private.stamp_kill_switch()
-- crossfade_private.after_kill_switch_change()
-- crossfade_private.switch_kill(text, boolean, text)
-- crossfade.engage_kill_switch(text, text)
-- crossfade.release_kill_switch(text, text)
-- crossfade.read_flags(bigint)
-- crossfade_private.check_exposures(jsonb)
-- crossfade_private.purge_exposures()
-- crossfade.record_exposures(jsonb)
-- crossfade_private.render(text, jsonb)
-- crossfade_private.base_type(oid)
-- crossfade_private.base_type_name(oid)
-- crossfade_private.base_typmod(oid, integer)
-- crossfade_private.type_parts(oid)
-- crossfade_private.assigned_sql(text, oid, integer, oid, integer)
-- crossfade_private.json_value(json)
-- crossfade_private.differs_sql(oid, text, text)
-- crossfade_private.has_equality(oid)
-- crossfade_private.unequal_sql(oid, text, text)
-- crossfade_private.column_differences(regclass, text, text)
-- crossfade_private.differing_columns_sql(regclass, text, text, text, boolean)
-- crossfade_private.rows_differ_sql(regclass, regclass)
-- crossfade_private.writable_columns(regclass, text[])
-- crossfade_private.always_identity(regclass)
-- crossfade_private.key_from_json(text[], regclass, text[], text)
-- crossfade_private.key_part(timestamptz)
-- crossfade_private.key_part(bytea)
-- crossfade_private.key_to_json(text[], regclass, text[], text)
-- crossfade_private.make_pieces(crossfade.pairs, integer)
-- crossfade_private.owner_search_path(regclass)
-- crossfade_private.printed_tokens(text)
-- crossfade_private.is_name(text)
-- crossfade_private.marked_tokens(text, text[], text)
-- crossfade_private.with_parameters(text, text[], text)
-- crossfade_private.select_items(text)
-- crossfade_private.unquoted(text)
-- crossfade_private.columns_read(text, text)
-- crossfade_private.column_copied(text, text)
-- crossfade_private.printed_body(oid)
-- crossfade_private.call_reason(oid)
-- crossfade_private.text_reason(text, text)
-- crossfade_private.converter_text(text)
-- crossfade_private.fill_item(text, text, text)
-- crossfade_private.query_types(text, text[])
-- crossfade_private.assigned_items(text[], jsonb, text, text[])
-- crossfade_private.standing_items(jsonb, jsonb, text, text[])
-- crossfade_private.standing_text(jsonb, jsonb, text, text[])
-- crossfade_private.protect_text(text)
-- crossfade_private.restore_text(text, text[])
-- crossfade_private.split_select_list(text)
-- crossfade_private.convert_sql(jsonb, text, text)
-- crossfade_private.conversion(text, regclass, regclass)
-- crossfade_private.depends_on_settings(jsonb, regclass, regclass)
-- crossfade_private.pair_conversions(crossfade.pairs)
-- crossfade_private.conversion_pieces(jsonb, text)
-- crossfade_private.counterpart_reads(jsonb)
-- crossfade_private.inlined_pieces(jsonb, integer)
-- crossfade_private.called_functions(text[])
-- crossfade_private.table_fingerprint(regclass, regclass)
-- crossfade_private.settled_text(text)
-- crossfade_private.converter_hash(text, text)
-- crossfade_private.get_pair(text)
-- crossfade_private.refuse_retired(crossfade.pairs, text)
-- crossfade_private.lock_control(boolean, text[])
-- crossfade_private.backend_rules(text, jsonb)
-- crossfade.choose_backend(text, jsonb)
-- crossfade_private.compares_rights()
-- crossfade_private.my_backend(text)
-- crossfade.my_backend(text)
-- crossfade_private.generator()
-- crossfade_private.has_triggers(regclass, text)
-- crossfade_private.triggers_met(regclass)
-- crossfade_private.key_type_reason(oid)
-- crossfade_private.key_type_problems(regclass, text, text[])
-- crossfade_private.base_type_modifier(oid, integer)
-- crossfade_private.key_family(oid, integer)
-- crossfade_private.key_pair_problems(crossfade.pairs)
-- crossfade_private.is_trusted_owner(oid)
-- crossfade_private.function_owner_problem(oid, text)
-- crossfade_private.converter_owner_problems(crossfade.pairs)
-- crossfade_private.table_owner_problems(regclass, text)
-- crossfade_private.constraint_kind("char")
-- crossfade_private.deferred_problems(regclass, text)
-- crossfade_private.default_sequence(regclass, text)
-- crossfade_private.sequence_owner(regclass)
-- crossfade_private.key_sequences(crossfade.pairs)
-- crossfade_private.sequence_warnings(crossfade.pairs)
-- crossfade_private.publications_of(regclass)
-- crossfade_private.has_replica_identity(regclass)
-- crossfade_private.replica_identity_command(regclass, text[])
-- crossfade_private.publication_problems(crossfade.pairs)
-- crossfade_private.publication_warnings(crossfade.pairs)
-- crossfade_private.table_problems(regclass, text, text[])
-- crossfade_private.foreign_keys_between_pairs()
-- crossfade_private.pair_ancestors()
-- crossfade_private.pair_groups()
-- crossfade_private.group_of(text)
-- crossfade_private.find_group(text)
-- crossfade_private.group_problems(crossfade.pairs)
-- crossfade_private.converter_problems(text, text, regclass, regclass)
-- crossfade_private.primary_key(regclass)
-- crossfade_private.pair_problems(crossfade.pairs)
-- crossfade_private.registration_problems(crossfade.pairs)
-- crossfade_private.outdated_mirror(crossfade.pairs)
-- crossfade_private.mirror_problems(crossfade.pairs)
-- crossfade_private.name_pattern(regclass)
-- crossfade_private.catalog_dependents(regclass)
-- crossfade_private.function_dependents(regclass)
-- crossfade_private.foreign_key_terms(oid)
-- crossfade_private.child_key_change(oid, crossfade.pairs)
-- crossfade_private.child_key_check(oid)
-- crossfade_private.job_dependents(regclass)
-- crossfade_private.v1_dependents(crossfade.pairs)
-- crossfade_private.dependent_blockers(crossfade.pairs)
-- crossfade_private.pair_row(text, text, text, text, text, text[], jsonb)
-- crossfade_private.column_renames(crossfade.pairs)
-- crossfade_private.renamed_name(text, jsonb, text, text)
-- crossfade_private.renamed_sql(text, jsonb, text, text)
-- crossfade_private.write_policies(regclass)
-- crossfade_private.client_policy_text(text)
-- crossfade_private.client_policies(text)
-- crossfade_private.write_policy_warnings(crossfade.pairs)
-- crossfade_private.copied_columns(crossfade.pairs)
-- crossfade_private.read_columns(regclass, oid, regclass)
-- crossfade_private.row_reason(regclass, oid, text, regclass)
-- crossfade_private.passes_policies(text, regclass)
-- crossfade_private.may_read(text, regclass, text[])
-- crossfade_private.readers(regclass)
-- crossfade_private.read_policies(regclass, regclass)
-- crossfade_private.reader_reason(text[], text[], regclass, regclass)
-- crossfade_private.repointed_text(text, regclass, regclass)
-- crossfade_private.same_sql(text, text)
-- crossfade_private.prove_repointed(regclass, oid, text, text, text[], regclass, regclass)
-- crossfade_private.repointed_query(text, text[], regclass, regclass)
-- crossfade_private.repointed_function(oid, text[], regclass, regclass)
-- crossfade_private.commented(text)
-- crossfade_private.dollar_quoted(text)
-- crossfade_private.guarded(text, text, text)
-- crossfade_private.hand_over_key(oid, crossfade.pairs)
-- crossfade_private.object_reason(regclass, oid, text, boolean, oid, text[], crossfade.pairs)
-- crossfade_private.hand_over_view(oid, text[], text, crossfade.pairs)
-- crossfade_private.hand_over_function(oid, text[], text, crossfade.pairs)
-- crossfade_private.policy_change(pg_catalog.pg_policy, text, text)
-- crossfade_private.hand_over_policy(oid, text[], text, crossfade.pairs)
-- crossfade_private.hand_over_publication(oid, crossfade.pairs)
-- crossfade_private.hand_over_default(oid, text, crossfade.pairs)
-- crossfade_private.hand_over_object(text, oid, text, text[], crossfade.pairs)
-- crossfade_private.handover_items(crossfade.pairs)
-- crossfade_private.handover_block(jsonb, text)
-- crossfade_private.handover_file(text, text)
-- crossfade.handover_plan(text)
-- crossfade_private.parent_warnings(crossfade.pairs)
-- crossfade_private.pair_warnings(crossfade.pairs)
-- crossfade.judge_pair(text, text, text, text, text, text[], jsonb)
-- crossfade_private.find_table(text)
-- crossfade_private.table_columns(regclass)
-- crossfade_private.table_hindrances(regclass)
-- crossfade_private.table_keys(regclass)
-- crossfade_private.table_parents(regclass)
-- crossfade_private.table_size(regclass)
-- crossfade.describe_table(text, integer)
-- crossfade_private.key_indexes(regclass, text[])
-- crossfade_private.is_never_null(regclass, text)
-- crossfade_private.fill_triggers(regclass, text)
-- crossfade_private.carry_problems(regclass, text)
-- crossfade_private.carry_notes(regclass, text)
-- crossfade_private.is_filled(regclass, text)
-- crossfade_private.carry_state(regclass, text)
-- crossfade_private.carry_file(text, text)
-- crossfade_private.carry_column_file(regclass, text)
-- crossfade_private.carry_index_name(regclass, text)
-- crossfade_private.carry_files(regclass, text, jsonb)
-- crossfade_private.carry_steps(regclass, text, jsonb)
-- crossfade.carry_plan(text, text)
-- crossfade_private.is_transient(text)
-- crossfade_private.is_of_this_transaction(xid)
-- crossfade_private.is_written_beside(xid, cid, cid)
-- crossfade_private.begin_engine_write(text)
-- crossfade_private.end_engine_write(text)
-- crossfade_private.is_engine_write(text)
-- crossfade_private.is_named_update(text, integer, text)
-- crossfade_private.is_own_write(text, integer, text, integer)
-- crossfade_private.note_nested(text, integer)
-- crossfade_private.record_failure(text, integer, jsonb, text, text, text, jsonb)
-- crossfade_private.is_unmirrored_tie(text, text)
-- crossfade_private.refuse_or_record(text, integer, jsonb, text, text, text, text)
-- crossfade_private.note_keys(text, integer, text, jsonb[])
-- crossfade_private.is_noted_delete(text, integer, jsonb)
-- crossfade_private.forget_noted_delete(text, jsonb)
-- crossfade_private.note_unseen(text, integer, text, jsonb[])
-- crossfade_private.refuse_blind_truncate(text, text)
-- crossfade_private.move_failure(text, jsonb, jsonb)
-- crossfade_private.is_any_behind(text)
-- crossfade_private.note_behind(text, integer, text, jsonb[])
-- crossfade_private.noted_moves(text)
-- crossfade_private.note_move(text, jsonb, jsonb)
-- crossfade_private.noted_move(text, jsonb)
-- crossfade_private.parent_pattern(regclass)
-- crossfade_private.is_parents_statement(text, regclass)
-- crossfade_private.note_v1_write(text)
-- crossfade_private.v1_write_blocker(crossfade.pairs)
-- crossfade_private.state_of(text, integer)
-- crossfade_private.stored_state(text, integer)
-- crossfade_private.read_state(text, integer)
-- crossfade_private.set_state_functions(text, integer, text, bigint, boolean)
-- crossfade_private.set_state(text, text, boolean)
-- crossfade_private.mend_state(text)
-- crossfade_private.open_or_close(text)
-- crossfade_private.is_referential_action(text, integer)
-- crossfade_private.refuse_archived_write()
-- crossfade_private.drop_archived_row()
-- crossfade_private.install_archive(crossfade.pairs)
-- crossfade_private.follow_mirror_state()
-- crossfade_private.refuse_fenced_write()
-- crossfade_private.mirror_insert_text()
-- crossfade_private.mirror_put_text()
-- crossfade_private.refuse_taken_text()
-- crossfade_private.mirror_update_text()
-- crossfade_private.update_many_text(boolean)
-- crossfade_private.read_differs_many_text()
-- crossfade_private.fast_update_text()
-- crossfade_private.single_update_text()
-- crossfade_private.mirror_edit_text()
-- crossfade_private.raise_left_out_text()
-- crossfade_private.edit_statement_text(boolean)
-- crossfade_private.named_tail_text()
-- crossfade_private.mirror_move_text()
-- crossfade_private.drop_what_is_left_out_text()
-- crossfade_private.mirror_push_text()
-- crossfade_private.mirror_delete_text()
-- crossfade_private.delete_many_text()
-- crossfade_private.mirror_remove_text()
-- crossfade_private.mirror_truncate_text()
-- crossfade_private.mirror_first_text()
-- crossfade_private.mirror_last_text()
-- crossfade_private.mirror_key_text()
-- crossfade_private.text_settings()
-- crossfade_private.key_sql(text, text[], text, text[])
-- crossfade_private.row_key_sql(text, text[])
-- crossfade_private.stored_rows_sql(regclass, text)
-- crossfade_private.any_differs_sql(regclass, text[], text, text)
-- crossfade_private.unique_key_names(regclass, text[])
-- crossfade_private.edited_columns(jsonb, regclass, regclass, text[])
-- crossfade_private.flag_pieces(jsonb, regclass, regclass, text[])
-- crossfade_private.update_pieces(jsonb, regclass, regclass, text[])
-- crossfade_private.move_pieces(crossfade.pairs, integer, regclass, regclass, text[], text[])
-- crossfade_private.settle_pieces(jsonb, regclass, text[], text[])
-- crossfade_private.counter_name(text, integer, text)
-- crossfade_private.counters(text)
-- crossfade_private.make_counters(text, integer)
-- crossfade_private.drop_counters(text)
-- crossfade_private.counter_sql(text, integer)
-- crossfade_private.own_frame(text, integer, text, text, text)
-- crossfade_private.raise_dropped_sql(text)
-- crossfade_private.name_pieces(crossfade.pairs, integer)
-- crossfade_private.key_pieces(text[], regclass, text[], regclass, text[])
-- crossfade_private.mirror_pieces(crossfade.pairs, integer, jsonb)
-- crossfade_private.view_write_text()
-- crossfade_private.view_stored_text()
-- crossfade_private.beside_name(text, text)
-- crossfade_private.view_key_type(regclass, text, regclass, text)
-- crossfade_private.view_columns(crossfade.pairs, text, boolean)
-- crossfade_private.constraint_checks(regclass, text)
-- crossfade_private.taken_key_text(crossfade.pairs)
-- crossfade_private.view_update(crossfade.pairs)
-- crossfade_private.view_returned(crossfade.pairs)
-- crossfade_private.view_variables(regclass)
-- crossfade_private.view_pieces(crossfade.pairs, jsonb, jsonb)
-- crossfade_private.copy_table_rights(regclass, text)
-- crossfade_private.copy_defaults(crossfade.pairs, text)
-- crossfade_private.view_sequence(crossfade.pairs, text)
-- crossfade_private.make_view(crossfade.pairs)
-- crossfade_private.mirror_body(text, jsonb)
-- crossfade_private.all_pieces(crossfade.pairs, integer, jsonb)
-- crossfade_private.make_mirror_function(text, text, jsonb, text)
-- crossfade_private.make_mirror_trigger(text, text, text, jsonb)
-- crossfade_private.plan_mirrors(crossfade.pairs)
-- crossfade_private.install_mirror(crossfade.pairs, integer, jsonb)
-- crossfade_private.install_settling(crossfade.pairs, jsonb, regclass)
-- crossfade_private.remove_mirror(crossfade.pairs, integer)
-- crossfade_private.remove_older(crossfade.pairs)
-- crossfade_private.install_pair(crossfade.pairs, jsonb)
-- crossfade.register_pair(text, text, text, text, text, text[], jsonb)
-- crossfade.unregister_pair(text, text)
-- crossfade.refresh_pair(text)
-- crossfade_private.plan_pairs()
-- crossfade_private.hold_tables(text[])
-- crossfade_private.hold_writers()
-- crossfade_private.refresh_pairs(jsonb)
-- crossfade_private.run_json(bigint)
-- crossfade_private.get_run(bigint)
-- crossfade.run_status(bigint)
-- crossfade.control_run(bigint, text, text)
-- crossfade_private.run_pieces(crossfade.pairs, text)
-- crossfade_private.converters_version(crossfade.pairs)
-- crossfade_private.sessions(integer[])
-- crossfade_private.prepared_transactions(xid[])
-- crossfade_private.name_sessions(jsonb)
-- crossfade_private.lock_holders(regclass[])
-- crossfade_private.locked_reason(text, regclass[])
-- crossfade_private.lock_blockers()
-- crossfade_private.others_transactions(bigint)
-- crossfade_private.look_at_load(crossfade.run_ranges)
-- crossfade_private.target_ms(crossfade.run_ranges, integer)
-- crossfade_private.wait_ms(crossfade.run_ranges, numeric, numeric)
-- crossfade_private.v1_answers(text, timestamptz)
-- crossfade_private.load_reason()
-- crossfade_private.throttle_reason()
-- crossfade_private.renew_baseline(crossfade.runs)
-- crossfade_private.throttle(crossfade.runs)
-- crossfade_private.release_reason(crossfade.pairs)
-- crossfade_private.older_writers(crossfade.runs)
-- crossfade_private.split_keys(jsonb, integer, real)
-- crossfade_private.bound_run(crossfade.runs, jsonb)
-- crossfade_private.estimate_rows(regclass)
-- crossfade_private.start_run(text, crossfade.pairs, text, integer)
-- crossfade_private.next_batch_rows(bigint, numeric[], integer)
-- crossfade_private.finish_batch(crossfade.run_ranges, bigint, bigint, bigint, numeric, numeric, integer)
-- crossfade_private.check_unchanged(crossfade.runs, crossfade.pairs, crossfade.run_ranges)
-- crossfade_private.batch_json(bigint, text, jsonb)
-- crossfade_private.batch_boundary(jsonb, crossfade.run_ranges, boolean)
-- crossfade_private.claim_range(crossfade.runs)
-- crossfade_private.range_rows(jsonb, crossfade.run_ranges, jsonb, boolean)
-- crossfade_private.range_keys(jsonb, jsonb, jsonb, boolean)
-- crossfade_private.write_rows(jsonb, text, jsonb, jsonb, jsonb[])
-- crossfade_private.lock_keys(jsonb, jsonb[])
-- crossfade_private.copy_sql(text, text, text)
-- crossfade_private.owed_sql(text)
-- crossfade_private.is_free(jsonb, jsonb, jsonb)
-- crossfade_private.owes_source(jsonb)
-- crossfade_private.copy_range(jsonb, text, jsonb, jsonb, boolean)
-- crossfade_private.copy_keys(jsonb, jsonb, jsonb[])
-- crossfade_private.copy_batch(jsonb, jsonb, jsonb)
-- crossfade_private.sweep(crossfade.runs, jsonb)
-- crossfade_private.finish_backfill(crossfade.runs, crossfade.pairs, jsonb)
-- crossfade_private.compare_sql(jsonb, text, text)
-- crossfade_private.find_mismatches(jsonb, text, text, jsonb, jsonb, jsonb[])
-- crossfade_private.find_in_range(jsonb, jsonb, jsonb)
-- crossfade_private.find_among(jsonb, jsonb[])
-- crossfade_private.record_found(text, bigint, jsonb, jsonb[])
-- crossfade_private.record_incomparable(text, bigint, jsonb, text)
-- crossfade_private.record_mismatches_of(text, bigint, jsonb, jsonb[])
-- crossfade_private.record_mismatches(text, bigint, jsonb, jsonb, jsonb)
-- crossfade_private.do_slice(crossfade.runs, jsonb, jsonb, jsonb)
-- crossfade_private.pass_row(crossfade.runs, jsonb, jsonb, text)
-- crossfade_private.shrink(crossfade.runs, jsonb, crossfade.run_ranges, text)
-- crossfade_private.do_slices(crossfade.runs, jsonb, crossfade.run_ranges, integer, timestamptz)
-- crossfade_private.shrunk_reason(jsonb, crossfade.run_ranges, crossfade.run_ranges, text)
-- crossfade_private.run_batch(crossfade.runs, crossfade.pairs, jsonb, integer)
-- crossfade_private.pair_parents(crossfade.pairs, integer)
-- crossfade_private.uncopied_parents(crossfade.pairs, text)
-- crossfade_private.require_parents(crossfade.pairs, text)
-- crossfade.start_backfill(text, text, integer)
-- crossfade.backfill_batch(bigint, integer)
-- crossfade.start_verify(text, integer)
-- crossfade_private.finish_verify(crossfade.runs, crossfade.pairs)
-- crossfade.verify_batch(bigint, integer)
-- crossfade_private.leader(text)
-- crossfade_private.repair_turns(crossfade.pairs, integer, boolean)
-- crossfade_private.repair_counts(crossfade.pairs)
-- crossfade_private.mark_tried(text, jsonb, boolean)
-- crossfade_private.same_error(jsonb[], text)
-- crossfade_private.look_at_keys(jsonb, jsonb[])
-- crossfade_private.judge_keys(jsonb, jsonb[])
-- crossfade_private.target_rows(jsonb, jsonb[])
-- crossfade_private.put_sql(text)
-- crossfade_private.put_keys(jsonb, text, jsonb[])
-- crossfade_private.settle_repaired(text, jsonb[])
-- crossfade_private.unreadable_keys(jsonb, jsonb[])
-- crossfade_private.workable_keys(text, jsonb, jsonb[], integer, boolean)
-- crossfade_private.write_plan(crossfade.pairs, jsonb, jsonb, text)
-- crossfade_private.repair_keys(crossfade.pairs, jsonb[], integer, boolean, text, text)
-- crossfade_private.move_counterpart(crossfade.pairs, integer, jsonb, jsonb)
-- crossfade_private.move_counterparts(crossfade.pairs, jsonb[])
-- crossfade.plan_repair(text, integer)
-- crossfade_private.repair_part(crossfade.pairs, jsonb, text, text)
-- crossfade.repair(text, integer, text, text)
-- crossfade_private.domain_tests(oid, text)
-- crossfade_private.row_tests(regclass)
-- crossfade_private.stored_sql(regclass, text, text[])
-- crossfade_private.made_sql(text, text)
-- crossfade_private.shown_columns(anyelement, text[])
-- crossfade_private.check_pieces(crossfade.pairs, integer)
-- crossfade_private.base_laws_sql(jsonb, integer)
-- crossfade_private.digests_sql(jsonb, integer)
-- crossfade_private.edited_sql(regclass, text[], text, text)
-- crossfade_private.lost_columns_sql(regclass)
-- crossfade_private.kept_columns_sql(regclass)
-- crossfade_private.rows_before_edit_sql(jsonb, boolean)
-- crossfade_private.edit_pieces(jsonb, integer, boolean)
-- crossfade_private.edit_laws_sql(jsonb, integer, boolean)
-- crossfade_private.run_check(text, jsonb[], integer, integer, jsonb, jsonb)
-- crossfade_private.run_check_elsewhere(text, jsonb[], jsonb, jsonb)
-- crossfade_private.check_rows(jsonb, integer, jsonb[], jsonb)
-- crossfade_private.next_keys(jsonb, jsonb, integer)
-- crossfade.check_conversion(text, integer, jsonb, integer)
-- crossfade_private.fill_json(crossfade_private.key_fills)
-- crossfade_private.check_fill(regclass, text, boolean)
-- crossfade_private.fill_rows(regclass, text, jsonb, integer)
-- crossfade_private.fill_batch(crossfade_private.key_fills, regclass, integer)
-- crossfade_private.lock_fill(regclass, text)
-- crossfade.carry_batch(text, text, boolean, integer)
-- crossfade.verify_some(text, integer)
-- crossfade_private.has_cron()
-- crossfade_private.drive_job(bigint)
-- crossfade_private.unschedule_run(bigint)
-- crossfade_private.on_run_over()
-- crossfade_private.note_drive(bigint, text)
-- crossfade_private.drive_once(bigint, timestamptz, integer)
-- crossfade_private.drive_command(bigint, integer)
-- crossfade_private.schedule_run(bigint)
-- crossfade.drive_run(bigint, boolean)
-- crossfade.sample_keys(text, integer, integer)
-- crossfade_private.measure_copy(jsonb, integer)
-- crossfade_private.plan_steps(crossfade.pairs)
-- crossfade_private.plan_sql(crossfade.pairs)
-- crossfade.plan_pair(text, integer)
-- crossfade_private.latency_bucket(numeric)
-- crossfade_private.check_requests(jsonb)
-- crossfade_private.request_events(jsonb)
-- crossfade_private.record_streak(text, bigint, boolean, bigint)
-- crossfade_private.record_memory(jsonb)
-- crossfade.record_requests(jsonb)
-- crossfade_private.backend_window(text, bigint, integer, timestamptz)
-- crossfade_private.backend_counts(text, bigint, integer, timestamptz)
-- crossfade_private.window_start(text, bigint, timestamptz)
-- crossfade_private.unread_writes(text)
-- crossfade_private.sample_writes(text)
-- crossfade_private.write_counts(text, timestamptz, bigint)
-- crossfade_private.step_evidence(crossfade.pairs)
-- crossfade.pair_writes(text, integer)
-- crossfade_private.engaged_fences(text)
-- crossfade_private.health_inputs(text)
-- crossfade.health_sample(text)
-- crossfade.record_verdicts(text, jsonb)
-- crossfade_private.keep_baseline()
-- crossfade.monitor_beat(text, numeric, boolean)
-- crossfade_private.wilson_lower(bigint, bigint, double precision)
-- crossfade_private.breach_since(text, jsonb, jsonb, jsonb)
-- crossfade_private.judge_error_rate(jsonb, jsonb, jsonb)
-- crossfade_private.judge(jsonb, jsonb, jsonb)
-- crossfade_private.rolled_up_to()
-- crossfade_private.counted_pairs()
-- crossfade.roll_up_requests(integer)
-- crossfade_private.point_width_s(integer)
-- crossfade_private.request_points(text, timestamptz, timestamptz, integer)
-- crossfade_private.summed_points(text, timestamptz, timestamptz, integer)
-- crossfade_private.traffic_window(text, timestamptz, timestamptz)
-- crossfade_private.traffic_series(text, integer)
-- crossfade_private.stages()
-- crossfade_private.stage_number(text)
-- crossfade_private.next_stage(text)
-- crossfade_private.blocker(text, text, text)
-- crossfade_private.data_blockers(crossfade.pairs)
-- crossfade_private.shadow_blockers(crossfade.pairs)
-- crossfade_private.rls_blockers(crossfade.pairs)
-- crossfade_private.view_problems(crossfade.pairs)
-- crossfade_private.bound_dependents(crossfade.pairs)
-- crossfade_private.rights_for_view(crossfade.pairs)
-- crossfade_private.retirement_blockers(crossfade.pairs)
-- crossfade_private.own_blockers(crossfade.pairs, text)
-- crossfade_private.group_blockers(crossfade.pairs, text)
-- crossfade_private.stage_blockers(crossfade.pairs, text)
-- crossfade_private.greatest_key(regclass, text)
-- crossfade_private.advance_sequence(regclass, bigint)
-- crossfade_private.lead_sequences(crossfade.pairs, integer)
-- crossfade_private.copy_sequence_rights(regclass, regclass)
-- crossfade_private.own_sequences(crossfade.pairs)
-- crossfade_private.return_sequences(crossfade.pairs)
-- crossfade_private.await_turn(text[])
-- crossfade_private.prepare_views(crossfade.pairs[])
-- crossfade_private.rename_v1(crossfade.pairs, text, text)
-- crossfade_private.swap_in_view(crossfade.pairs)
-- crossfade_private.swap_back_tables(crossfade.pairs[])
-- crossfade_private.refuse_stage(crossfade.pairs, text, jsonb)
-- crossfade_private.check_way_back(crossfade.pairs, text)
-- crossfade_private.check_group_way_back(crossfade.pairs, text)
-- crossfade_private.change_leader(crossfade.pairs, text)
-- crossfade_private.enter_stage(crossfade.pairs, text)
-- crossfade_private.await_v1_writers(crossfade.pairs)
-- crossfade_private.move_forward(crossfade.pairs[], text, boolean, boolean)
-- crossfade_private.move_pairs(text[], text, text, boolean, boolean)
-- crossfade.set_stage(text, text, text, boolean)
-- crossfade.set_group_stage(text, text, text, boolean)
-- crossfade_private.check_raise(crossfade.pairs, numeric)
-- crossfade.set_cohort(text, jsonb, text)
-- crossfade_private.is_engine()
-- crossfade_private.refuse_pair_edit(text, text, text)
-- crossfade_private.guard_pair()
-- crossfade_private.lock_pairs()
-- crossfade_private.follow_percentage()
-- crossfade.set_mirror(text, text, text)
-- crossfade.ignore_dependents(text, text[], text)
-- crossfade_private.write_right_sql(regclass, text, text, boolean)
-- crossfade_private.rights_of_rows_sql(regclass, text, integer, text[], text[])
-- crossfade_private.write_rights_sql(crossfade.pairs, text)
-- crossfade_private.visible_keys_sql(crossfade.pairs, text)
-- crossfade_private.row_pages_sql(crossfade.pairs)
-- crossfade.rls_questions(text)
-- crossfade.record_rls_check(text, integer, integer)
-- crossfade.check_rls(text, jsonb)
-- crossfade_private.step_order(text, numeric)
-- crossfade_private.reached_steps(jsonb, text, numeric)
-- crossfade_private.active_plan(text)
-- crossfade_private.flags_beyond(text, text, numeric)
-- crossfade_private.bad_plan(integer, text, text)
-- crossfade_private.check_plan_flags(integer, jsonb)
-- crossfade_private.check_plan_step(integer, jsonb)
-- crossfade_private.check_plan(jsonb)
-- crossfade_private.rollout_facts(crossfade.pairs, crossfade.rollouts)
-- crossfade_private.wait_for(text, text)
-- crossfade_private.person_waits(crossfade.pairs, crossfade.rollouts, jsonb)
-- crossfade_private.gate_waits(crossfade.pairs, jsonb)
-- crossfade_private.rollout_waits(crossfade.pairs, crossfade.rollouts, boolean)
-- crossfade_private.active_rollout(text)
-- crossfade_private.rollout_json(text, boolean)
-- crossfade.rollout_status(text)
-- crossfade_private.put_rollout(crossfade.rollouts, text, text)
-- crossfade_private.approve_step(crossfade.rollouts, text, jsonb)
-- crossfade.start_rollout(text, jsonb, text, numeric)
-- crossfade_private.enter_step(crossfade.pairs, jsonb, text)
-- crossfade_private.may_give_up(crossfade.pairs, crossfade.rollouts, jsonb)
-- crossfade.advance_rollout(text, bigint, boolean, text)
-- crossfade_private.check_change_set(jsonb)
-- crossfade_private.change_switch(jsonb)
-- crossfade_private.apply_change(jsonb, text)
-- crossfade_private.apply_change_set(jsonb, text)
-- crossfade.apply_changes(jsonb, text, bigint)
-- crossfade.schedule_changes(jsonb, timestamptz, text)
-- crossfade.cancel_changes(bigint, text)
-- crossfade_private.raises_flag(crossfade.flags, jsonb)
-- crossfade_private.apply_scheduled(crossfade.scheduled_changes)
-- crossfade.apply_due_changes()
-- crossfade_private.control_state()
-- crossfade_private.save_snapshot(text)
-- crossfade.take_snapshot(text)
-- crossfade_private.restore_switches(crossfade.snapshots, text)
-- crossfade_private.restore_flags(crossfade.snapshots)
-- crossfade_private.restore_cohort(crossfade.cohorts, text)
-- crossfade_private.restore_pair(text, text, crossfade.cohorts, text)
-- crossfade.restore_snapshot(bigint, text)
-- crossfade_private.previous_step(text, numeric)
-- crossfade_private.plan_pair(text, crossfade.pairs)
-- crossfade_private.rollback_pairs(text, text)
-- crossfade_private.rollback_plan(text, text, text, boolean)
-- crossfade_private.check_rollback(text, text)
-- crossfade_private.unmirrored_rows(crossfade.pairs, integer)
-- crossfade_private.preserve(crossfade.pairs[])
-- crossfade_private.apply_rollback_step(jsonb, text)
-- crossfade_private.plan_values(jsonb, text)
-- crossfade_private.run_rollback(text, text, text, boolean, jsonb)
-- crossfade.rollback(text, text, text, boolean, boolean, bigint)
-- crossfade.rearm(text, text)
-- crossfade_private.yield_to_rollback()
-- crossfade_private.yield_to_step_back()
-- crossfade.control_rollout(text, text, text, text, boolean)
-- crossfade_private.watch_pair(text)
-- crossfade_private.watch_once()
-- crossfade_private.watch_command(integer)
-- crossfade_private.unschedule_watch()
-- crossfade.drive_monitor(boolean)
-- crossfade_private.pair_json(crossfade.pairs)
-- crossfade.pair_status(text)
-- crossfade.group_status(text)
-- crossfade_private.last_verdicts(text)
-- crossfade_private.sees_rows()
-- crossfade_private.overview_runs(text)
-- crossfade_private.overview_differences(text)
-- crossfade_private.overview_pair(crossfade.pairs)
-- crossfade_private.changed_values(jsonb, jsonb)
-- crossfade_private.overview_flags(integer)
-- crossfade_private.overview_timeline(integer)
-- crossfade_private.overview_totals()
-- crossfade.overview(integer, text, boolean)
-- crossfade.show_rows(text, jsonb)
-- crossfade_private.known_checks()
-- crossfade.run_check(text, text)
-- crossfade.diagnose()
-- crossfade_private.stamp_operator()
-- crossfade_private.on_operator_change()
-- crossfade_private.check_operator_role(text)
-- crossfade_private.find_operator(text)
-- crossfade_private.find_user(text)
-- crossfade.add_operator(text, text, text)
-- crossfade.set_operator_role(text, text, text)
-- crossfade.remove_operator(text, text)
-- crossfade_private.rights()
-- crossfade_private.operate(text, jsonb)
-- crossfade.operate(text, jsonb)
-- crossfade.whoami()
$functions$, true);
  perform crossfade_private.drop_left_behind();
end $$;

-- base/actor.sql ----------------------------------------------------------------------------------

-- Who acts. Before the tables, because their defaults call it.

create or replace function crossfade_private.actor_id()
returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return nullif(nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub', '');
exception when invalid_text_representation then
  return null;
end $$;

comment on function crossfade_private.actor_id is
  'User id (claim sub) of the signed-in person; null when nobody is signed in.';

create or replace function crossfade_private.actor()
returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_role text := coalesce(nullif(current_setting('role', true), 'none'), session_user::text);
  v_claims jsonb := nullif(current_setting('request.jwt.claims', true), '')::jsonb;
  v_headers jsonb := nullif(current_setting('request.headers', true), '')::jsonb;
begin
  -- The address that an admin has added comes first: users may change the one in their token. A
  -- header can be sent by anybody, so only the secret key is believed what it says in one.
  return coalesce(
    (
      select o.email from crossfade.operators o
      where o.user_id = crossfade_private.actor_id() and v_role = 'authenticated'
    ),
    v_claims ->> 'email', crossfade_private.actor_id(),
    case when v_role not in ('anon', 'authenticated')
      then left(nullif(v_headers ->> 'x-crossfade-actor', ''), 200) end,
    v_role);
exception when invalid_text_representation then
  return session_user::text;
end $$;

comment on function crossfade_private.actor is
  'Who acts: the signed-in operator or user, else with the secret key the header x-crossfade-actor (200 characters), else the role.';

-- tables/control.sql ------------------------------------------------------------------------------

-- The control row, whose counter grows with every change, and the record of who changed what.

create table if not exists crossfade.control (
  singleton boolean primary key default true,
  flags_version bigint not null default 1,
  schema_version integer not null default 2,
  release text not null default '',
  constraint control_has_one_row check (singleton)
);

insert into crossfade.control default values on conflict do nothing;

comment on table crossfade.control is
  'One row. flags_version grows with every change to settings, flags, cohorts, kill switches and pairs, and travels on every answer.';
comment on column crossfade.control.schema_version is
  'What the control plane checks before it works. A release raises it when older commands cannot change things any more.';
comment on column crossfade.control.release is
  'The release that was installed last.';

create table if not exists crossfade.audit (
  id bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(),
  actor text not null,
  actor_id text,
  action text not null,
  object text not null,
  reason text,
  before jsonb,
  after jsonb,
  flags_version bigint not null
);

create index if not exists audit_at_idx on crossfade.audit (at desc);

comment on table crossfade.audit is
  'Append-only: who changed what, when, why, with the row before and after. reason is null when the change was made by hand without one.';
comment on column crossfade.audit.actor_id is
  'User id (claim sub) of the signed-in person; null for the secret key and direct connections.';

-- tables/settings.sql -----------------------------------------------------------------------------

-- Every number an operator may change is a row here; no other file or language repeats one.

create table if not exists crossfade.settings (
  name text primary key,
  value jsonb not null,
  unit text not null default '',
  description text not null default '',
  minimum numeric,
  maximum numeric,
  updated_at timestamptz not null default clock_timestamp(),
  updated_by text not null default 'crossfade',
  constraint number_is_within_limits check (
    jsonb_typeof(value) <> 'number'
    or value::text::numeric
    between coalesce(minimum, '-infinity'::numeric) and coalesce(maximum, 'infinity'::numeric)
  )
);

comment on table crossfade.settings is
  'Numbers and choices an operator may change. value keeps the JSON type it was seeded with; minimum and maximum (both inclusive, null = none) bind numbers. rN_* belong to health rule RN.';

-- Before the triggers, so that an installation is not audited as sixty changes. A row that exists
-- keeps what its operator chose.
insert into crossfade.settings (name, value, unit, minimum, maximum, description)
values
  ('kill_wait_ms', '500', 'ms', 0, 10000,
    'Longest wait of a kill for V2 writes that have begun; past it the switch engages anyway'),
  ('batch_target_ms', '40', 'ms', 10, 60000,
    'Time that a batch aims at while others use the database; its number of rows follows'),
  ('batch_idle_target_ms', '500', 'ms', 10, 60000,
    'Time that a batch aims at while nobody else uses the database'),
  ('batch_duty_pct', '30', 'percent', 1, 100,
    'Share of the time that batches may work while others use the database; the rest they wait'),
  ('batch_idle_transactions_per_s', '5', 'transactions', 0, null,
    'Nobody uses the database while others do fewer transactions a second than this'),
  ('batch_first_rows', '100', 'rows', 1, null, 'Rows of the first batch of a run'),
  ('batch_min_rows', '10', 'rows', 1, null, 'Smallest batch, as long as none runs into a timeout'),
  ('batch_max_rows', '100000', 'rows', 1, null, 'Largest batch'),
  ('throttle_active_sessions', '40', 'sessions', 1, null,
    'Batches wait while more sessions than this run a statement'),
  ('throttle_lock_waits', '5', 'sessions', 0, null,
    'Batches wait while more sessions than this wait for a lock'),
  ('throttle_replay_lag_s', '5', 's', 0, null,
    'Batches wait while a replica is further behind than this'),
  ('throttle_latency_factor', '1.25', 'ratio', 1, null,
    'Batches slow down, and wait from here on: p95 of V1 over its p95 before the run'),
  ('throttle_min_difference_ms', '2', 'ms', 0, null,
    'Smallest rise of the p95 of V1 for which batches wait'),
  ('throttle_error_rate', '0.02', 'rate', 0, 1,
    'Batches wait while the error rate of V1 is higher than before the run by more than this'),
  ('throttle_min_requests', '50', 'requests', 1, null,
    'Fewest requests of V1, before the run and now, from which its latency and errors are judged'),
  ('stage_bake_s', '86400', 's', 0, null,
    'Time that backend 2 must have served everybody before complete'),
  ('flags_soft_age_ms', '5000', 'ms', 100, null,
    'Age at which an edge isolate refreshes its copy behind the request'),
  ('flags_hard_age_ms', '60000', 'ms', 1000, null,
    'Age at which an edge copy counts as stale and what can be killed falls back to V1'),
  ('exposures_keep_days', '30', 'days', 0, 3650,
    'Age at which minutes of crossfade.flag_exposures are deleted'),
  ('shadow_sample_rate', '0.1', 'rate', 0, 1, 'Share of reads that stage shadow compares'),
  ('rollout_steps', '[5, 25, 75, 100]', 'percent', null, null,
    'Percentages of a rollout, ascending; PARTIAL goes back to the entry below the current one'),
  ('rollout_step_min_s', '[1800, 3600, 7200, 86400]', 's', null, null,
    'Shortest time on each entry of rollout_steps'),
  ('rollout_step_min_requests', '50', 'requests', 0, null,
    'Fewest V2 requests on a step before it may advance'),
  ('rollout_manual_steps', '[100]', 'percent', null, null, 'Steps that a person approves'),
  ('rollout_cooldown_s', '900', 's', 0, null,
    'Time after an automatic rollback during which rearm does not restart the rollout'),
  ('shadow_match_rate', '0.999', 'rate', 0, 1, 'Smallest share of equal shadow reads before live'),
  ('shadow_min_reads', '1000', 'requests', 0, null, 'Fewest compared shadow reads before live'),
  ('monitor_interval_s', '15', 's', 1, 3600, 'Time between two evaluations of the health rules'),
  ('health_window_s', '300', 's', 60, 3600,
    'Usual window of a health sample, and the whole of its recent part'),
  ('health_window_requests', '50', 'requests', 0, null,
    'The window grows until it holds so many V2 requests'),
  ('health_window_max_s', '3600', 's', 60, 86400, 'Longest window of a health sample'),
  ('rule_version', '1', '', 1, null,
    'Raise it when the meaning of a rule changes; stored with every verdict'),
  ('rule_modes', '{}', '', null, null,
    'Mode of a rule by its name: enforce, warn, dry_run or off; enforce when absent'),
  ('wilson_z', '1.645', '', 0, 10, 'z of the one-sided Wilson bounds (1.645 = 95 %)'),
  ('shared_cause', '"rollback"', '', null, null,
    'When V1 is as bad as V2: rollback (still go back) or suppress'),
  ('shared_cause_margin_rate', '0.02', 'rate', 0, 1,
    'V1 counts as equally bad when its error rate is at most this much lower'),
  ('r1_error_rate', '0.10', 'rate', 0, 1, 'Critical error rate'),
  ('r1_min_requests', '20', 'requests', 1, null, 'Fewest requests for R1'),
  ('r1_lower_bound_rate', '0.07', 'rate', 0, 1, 'Lower Wilson bound that R1 needs'),
  ('r1_hold_s', '60', 's', 0, null, 'Time a breach of R1 must last'),
  ('r1s_min_requests', '10', 'requests', 1, null, 'Fewest requests for R1s'),
  ('r1s_lower_bound_rate', '0.30', 'rate', 0, 1, 'Lower Wilson bound that fails R1s at once'),
  ('r1k_streak', '6', 'requests', 1, null, 'Consecutive V2 errors that fail R1k at once'),
  ('r2_error_rate', '0.05', 'rate', 0, 1, 'Warning error rate'),
  ('r2_min_requests', '20', 'requests', 1, null, 'Fewest requests for R2'),
  ('r2_clear_rate', '0.04', 'rate', 0, 1, 'R2 clears below this rate'),
  ('r2_clear_s', '300', 's', 0, null, 'Time below r2_clear_rate that clears R2'),
  ('r2_page_s', '1800', 's', 0, null, 'R2 held this long calls a person'),
  ('r3_success_rate', '0.95', 'rate', 0, 1, 'Success rate that a step needs to advance'),
  ('r3_min_requests', '50', 'requests', 1, null, 'Fewest requests for R3'),
  ('r3_strict', 'false', '', null, null, 'true: the lower Wilson bound must reach r3_success_rate'),
  ('r4_p95_ms', '10000', 'ms', 0, null, 'Critical p95 of the response time'),
  ('r4_warn_p95_ms', '5000', 'ms', 0, null, 'p95 that holds the rollout'),
  ('r4_min_requests', '20', 'requests', 1, null, 'Fewest requests for R4'),
  ('r4_hold_s', '60', 's', 0, null, 'Time a breach of R4 must last'),
  ('r5_p95_ratio', '2.0', 'ratio', 1, null, 'p95 of V2 over p95 of V1'),
  ('r5_p50_ratio', '1.5', 'ratio', 1, null, 'Median of V2 over median of V1'),
  ('r5_min_difference_ms', '50', 'ms', 0, null, 'Smallest difference of the p95 that counts'),
  ('r5_min_requests', '50', 'requests', 1, null, 'Fewest requests on both backends for R5'),
  ('r5_hold_s', '600', 's', 0, null, 'Time a breach of R5 must last before PARTIAL'),
  ('r6_memory_rate', '0.90', 'rate', 0, 1, 'Critical share of an isolate''s memory'),
  ('r6_limit_bytes', '268435456', 'bytes', 1, null,
    'Memory an isolate may use: 256 MB on the hosted platform'),
  ('r6_min_reports', '3', 'reports', 1, null, 'Fewest reports above r6_memory_rate for R6'),
  ('r6_window_s', '60', 's', 1, 3600, 'Reports older than this do not count for R6'),
  ('r6_hold_s', '180', 's', 0, null, 'Time a breach of R6 must last before PARTIAL'),
  ('r7_stall_s', '86400', 's', 1, null,
    'A running backfill or verify this long without progress has stalled'),
  ('r7_warn_s', '3600', 's', 1, null,
    'A running backfill or verify this long without progress is slow'),
  ('r8_mismatch_rate', '0.001', 'rate', 0, 1, 'Share of verified rows that differ before COMPLETE'),
  ('r9_p95_ratio', '1.2', 'ratio', 1, null,
    'p95 of V1 while mirrored over p95 of V1 before mirroring began'),
  ('r9_min_difference_ms', '10', 'ms', 0, null, 'Smallest difference of the p95 that counts'),
  ('r9_min_requests', '50', 'requests', 1, null, 'Fewest requests on both sides for R9'),
  ('r10_no_data_s', '600', 's', 1, null, 'V2 is expected but has no request for this long'),
  ('r11_failures', '4', 'readings', 1, null, 'Consecutive failures to read metrics before ERROR'),
  ('r11_max_age_s', '120', 's', 1, null,
    'Newest request older than this while traffic exists is ERROR'),
  ('r12_dead_s', '60', 's', 1, 3600, 'A monitor that was not heard for this long is dead'),
  ('monitor_lease_s', '45', 's', 1, 3600,
    'A monitor that was not heard for this long is replaced by another one that waits')
on conflict (name) do nothing;

-- tables/operators.sql ----------------------------------------------------------------------------

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

-- tables/flags.sql --------------------------------------------------------------------------------

-- Feature flags, and how often each was answered with what, counted by minute.

create table if not exists crossfade.flags (
  name text primary key,
  description text not null default '',
  enabled boolean not null default false,
  percentage numeric(6, 3),
  default_value boolean not null default false,
  cohort_key text not null,
  allow_user_ids text[] not null default '{}',
  allow_agent_ids text[] not null default '{}',
  deny_user_ids text[] not null default '{}',
  deny_agent_ids text[] not null default '{}',
  prerequisites text[] not null default '{}',
  killed_by text[] not null default '{}',
  updated_at timestamptz not null default clock_timestamp(),
  updated_by text not null default 'crossfade',
  constraint name_is_short_and_visible check (name ~ '^[^[:space:][:cntrl:]]{1,100}$'),
  constraint percentage_is_0_to_100 check (percentage between 0 and 100)
);

comment on table crossfade.flags is
  'Features of backend 2. The first rule that applies decides: kill switch, enabled, prerequisites, deny, allow, percentage, default_value. A hand edit is audited, versioned and broadcast like set_flag.';
comment on column crossfade.flags.percentage is
  'Share of the units that get the feature, 0 to 100 with three decimals; null = no share, default_value decides.';
comment on column crossfade.flags.cohort_key is
  'Flags with the same key and percentage include the same units. Changing it draws all units anew.';
comment on column crossfade.flags.prerequisites is
  'Flags that must be on for the same unit; one level deep.';
comment on column crossfade.flags.killed_by is
  'Kill switches that turn the flag off; an unknown name does nothing.';

-- Before the triggers: an installation is not eleven changes. An existing row is left alone.
insert into crossfade.flags (name, enabled, percentage, cohort_key, killed_by, description)
select v.name, v.is_on, case when v.is_on then 100 else 0 end, v.name, v.killed_by, v.description
from (
  values
  ('use_advanced_messages', true, array['disable_v2_messages'],
    'Backend 2 may store and serve messages made of typed blocks'),
  ('enable_memory_system', false, array['disable_memory_system'],
    'Remember facts between conversations'),
  ('enable_state_management', false, array['disable_state_management'],
    'Keep the state of a conversation'),
  ('use_new_tool_framework', false, array['disable_new_tools'], 'Call tools in the new format'),
  ('enable_streaming_responses', false, array[]::text[], 'Send an answer while it is being made'),
  ('maintain_dual_write', true, array[]::text[],
    'Write to V2 what only V2 can hold while backend 1 serves'),
  ('auto_migrate_messages', true, array[]::text[], 'Copy an old message to V2 when it is read'),
  ('enable_compatibility_mode', true, array[]::text[], 'Accept and answer the V1 wire format'),
  ('enable_caching', false, array[]::text[], 'Give an answer of the model again'),
  ('enable_parallel_tools', false, array[]::text[], 'Run independent tool calls at once'),
  ('enable_context_compression', false, array[]::text[],
    'Shorten a long conversation for the model')
) as v (name, is_on, killed_by, description)
on conflict (name) do nothing;

create table if not exists crossfade.flag_exposures (
  flag text not null,
  minute timestamptz not null,
  variant text not null,
  reason text not null,
  exposures bigint not null,
  -- The minute first: what is charted and what is purged are both ranges of minutes.
  primary key (minute, flag, variant, reason),
  constraint variant_is_on_or_off check (variant in ('on', 'off')),
  constraint reason_is_known check (
    reason in ('STATIC', 'DEFAULT', 'TARGETING_MATCH', 'SPLIT', 'DISABLED', 'STALE', 'ERROR')
  )
)
-- Counters are updated in place: free space in a page keeps them off the index.
with (fillfactor = 70);

comment on table crossfade.flag_exposures is
  'Feature adoption: answers of flags counted by minute, variant (on, off) and reason; filled by record_exposures(batch jsonb). Only flags that exist, so at most 14 rows a flag and minute; rows older than setting exposures_keep_days go with later batches. No foreign key: counts outlive their flag.';

-- tables/kill_switches.sql ------------------------------------------------------------------------

-- Kill switches: named stops that override flags and cohorts.

create table if not exists crossfade.kill_switches (
  name text primary key,
  description text not null default '',
  engaged boolean not null default false,
  fences boolean not null default false,
  overrides_all boolean not null default false,
  pair text,
  engaged_at timestamptz,
  engaged_by text,
  reason text,
  constraint name_is_short_and_visible check (name ~ '^[^[:space:][:cntrl:]]{1,100}$')
);

comment on table crossfade.kill_switches is
  'Emergency stops. A hand edit of engaged acts, is audited and broadcast exactly like engage_kill_switch.';
comment on column crossfade.kill_switches.fences is
  'While engaged, direct writes to V2 by API roles are refused and backend 1 serves.';
comment on column crossfade.kill_switches.overrides_all is
  'While engaged, every flag is false and backend 1 serves every pair.';
comment on column crossfade.kill_switches.pair is
  'The one pair a fence is for; null = every pair. No foreign key: a switch outlives its pair.';
comment on column crossfade.kill_switches.reason is
  'Why it was engaged; null when nobody said, or never engaged.';

do $$
declare
  v_switch record;
begin
  -- Only what is missing: even an INSERT of nothing closes the fence, and writers of V2 would wait
  -- for the end of the migration.
  for v_switch in
    select s.* from (values
      ('disable_v2_messages', true, false, 'Serve V1 and refuse direct writes to V2'),
      ('disable_memory_system', false, false, 'Turn enable_memory_system off'),
      ('disable_state_management', false, false, 'Turn enable_state_management off'),
      ('disable_new_tools', false, false, 'Turn use_new_tool_framework off'),
      ('emergency_rollback', true, true,
        'Turn every flag off, serve V1, refuse direct writes to V2')
    ) s(name, fences, overrides_all, description)
    where not exists (select from crossfade.kill_switches k where k.name = s.name)
  loop
    insert into crossfade.kill_switches (name, fences, overrides_all, description)
    values (v_switch.name, v_switch.fences, v_switch.overrides_all, v_switch.description);
  end loop;
end $$;

-- tables/pairs.sql --------------------------------------------------------------------------------

-- Pairs: which tables belong together and how rows are converted; and who is served by V2.

create table if not exists crossfade.pairs (
  name text primary key,
  v1_table text not null,
  v1_view text,
  v2_table text not null,
  to_v2 text not null,
  to_v1 text not null,
  key_columns text[] not null,
  v2_key_columns text[] not null,
  gate_flag text,
  stage text not null default 'off',
  step bigint not null default 1,
  step_started_at timestamptz not null default clock_timestamp(),
  step_flags_version bigint not null default 0,
  generator text not null default '',
  stage_xid bigint default 0,
  stage_server_started_at timestamptz,
  latched_at timestamptz,
  latch_reason text,
  fingerprint text not null,
  converter_hash text not null,
  verified_converter_hash text,
  last_backfill_at timestamptz,
  last_clean_verify_at timestamptz,
  full_since timestamptz,
  needs_reverse_backfill boolean not null default false,
  moved_sequences jsonb not null default '[]',
  options jsonb not null default '{}',
  registered_at timestamptz not null default clock_timestamp(),
  constraint pair_name_is_a_short_identifier check (name ~ '^[a-z][a-z0-9_]{0,39}$'),
  constraint stage_is_known check (
    stage in ('off', 'dualwrite', 'shadow', 'live', 'rampdown', 'complete', 'retired')
  )
);

comment on table crossfade.pairs is
  'One row per pair. Changed only by functions; step counts stage and percentage changes and labels request metrics.';
comment on column crossfade.pairs.v1_table is
  'The table of version 1. In stage retired its name is that of the archive.';
comment on column crossfade.pairs.v1_view is
  'In stage retired the name that V1 had, and which the view over V2 has now; null in the others.';
comment on column crossfade.pairs.stage_xid is
  'Transactions below it may have written before mirroring was on, so a backfill waits until they have ended. Null after the switch until the first batch knows it: a writer that misses the switch may begin as late as its commit.';
comment on column crossfade.pairs.stage_server_started_at is
  'When the server that stage_xid is of was started: transaction numbers mean nothing in another cluster, and after a restart no older transaction is open.';
comment on column crossfade.pairs.generator is
  'Release whose texts made the mirror functions of the pair.';
comment on column crossfade.pairs.fingerprint is
  'Hash of the columns of both tables when the generated code was made; batches refuse to run when it differs (CF011).';
comment on column crossfade.pairs.full_since is
  'Since when backend 2 has served everybody; null while it does not.';

comment on column crossfade.pairs.moved_sequences is
  'What entering complete did so that V2''s defaults do not need V1: [{"column": of V2, "sequence", "owner": V1''s column that owned it, or "before": the default that V2 had}]; the way back undoes it.';

create table if not exists crossfade.cohorts (
  pair text primary key references crossfade.pairs on delete cascade on update cascade,
  percentage numeric(6, 3) not null default 0,
  cohort_key text not null,
  enabled_user_ids text[] not null default '{}',
  enabled_agent_ids text[] not null default '{}',
  denied_user_ids text[] not null default '{}',
  denied_agent_ids text[] not null default '{}',
  updated_at timestamptz not null default clock_timestamp(),
  updated_by text not null default crossfade_private.actor(),
  constraint percentage_is_0_to_100 check (percentage between 0 and 100)
);

comment on table crossfade.cohorts is
  'The units that backend 2 serves in stage live: percentage 0 to 100 (three decimals), allow and deny lists. Deny wins.';

create table if not exists crossfade_private.pair_pieces (
  pair text not null references crossfade.pairs on delete cascade on update cascade,
  side smallint not null,
  pieces jsonb not null,
  primary key (pair, side),
  constraint side_is_1_or_2 check (side in (1, 2))
);

comment on table crossfade_private.pair_pieces is
  'SQL fragments (column lists, key lists) per pair with this side as the source; filled into templates by render().';

-- tables/mirror.sql -------------------------------------------------------------------------------

-- What the mirror reads, and the writes that it could not carry over.

create table if not exists crossfade_private.mirror_state (
  pair text primary key references crossfade.pairs on delete cascade on update cascade,
  mirror text not null default 'off',
  failure_policy text not null default 'record',
  tombstones boolean not null default false,
  opened boolean not null default false,
  unproven boolean not null default false,
  watched_since timestamptz,
  constraint mirror_is_known check (
    mirror in ('off', 'waiting', 'both', 'log_only', 'archived', 'reverse')),
  constraint failure_policy_is_known check (failure_policy in ('record', 'raise'))
);

comment on table crossfade_private.mirror_state is
  'off: nothing is mirrored. waiting: nothing yet, its rows refer to rows of pairs that are not copied; its backfill switches it on. both: either table to the other. log_only: only the keys of changed rows are noted, as open failures that repair drains. archived: stage complete, V1 refuses writes. reverse: complete on the way back, V2 is mirrored and V1 still refuses writes. Apart from crossfade.pairs, so that bookkeeping there never conflicts with writers.';
comment on column crossfade_private.mirror_state.opened is
  'Whether API roles may write V2: from the first finished backfill on, until the stage is off; not while it is unproven, nor while the mirror is log_only or its notes are not drained.';

comment on column crossfade_private.mirror_state.unproven is
  'V2 had rows when mirroring began, of a time before that or by hand. They may say what V1 said then, or whose a row was: V2 stays closed until a verify pass after the backfill finds no difference.';
comment on column crossfade_private.mirror_state.watched_since is
  'Since when writes of V1 that are not the mirror''s are noted in v1_writes: stage rampdown. Null in the others.';

create table if not exists crossfade_private.v1_writes (
  pair text not null references crossfade.pairs on delete cascade on update cascade,
  session_pid integer not null,
  at timestamptz not null default clock_timestamp(),
  role text not null,
  application text not null,
  called_by text,
  primary key (pair, session_pid)
);

comment on table crossfade_private.v1_writes is
  'The last direct write of V1 by each session in stage rampdown, at most 10 s too old. called_by: the function of a trigger; null for a client''s own statement.';

create table if not exists crossfade_private.engine_writes (
  transaction_id xid8 primary key,
  pair text not null,
  depth integer not null
);

comment on table crossfade_private.engine_writes is
  'The pair whose tables a batch or repair is writing in this transaction, so that triggers know its rows for copies. A row is there for no longer than that; what a crash leaves names a transaction that is over.';
comment on column crossfade_private.engine_writes.depth is
  'Depth of triggers in which the batch or repair was called: what is written deeper, triggers of the tables write.';

create table if not exists crossfade_private.rights_checks (
  transaction_id xid8 primary key
);

comment on table crossfade_private.rights_checks is
  'Transactions in which check_rls compares the rights of users, whichever version serves them. A row is there for no longer than that, as in engine_writes.';

create table if not exists crossfade.mirror_failures (
  id bigint generated always as identity primary key,
  pair text not null references crossfade.pairs on delete cascade on update cascade,
  written_side smallint not null,
  key jsonb not null,
  operation text not null,
  error_code text not null,
  message text not null,
  at timestamptz not null default clock_timestamp(),
  attempts integer not null default 1,
  last_attempt_at timestamptz,
  is_slow boolean not null default false,
  moved_to jsonb,
  resolved_at timestamptz,
  resolution text
);

comment on table crossfade.mirror_failures is
  'Writes that reached one table only. key uses the V1 column names; written_side says which table is right; open while resolved_at is null.';
comment on column crossfade.mirror_failures.last_attempt_at is
  'When a repair last tried the row without success; null: never. The longest waiting come first.';
comment on column crossfade.mirror_failures.moved_to is
  'The row has this key by now; its counterpart could not follow and still has key. It holds what only its table knows, so it is moved, never made anew.';
comment on column crossfade.mirror_failures.is_slow is
  'A repair of it, maybe among others, ran into a timeout: it is tried alone from then on.';

create table if not exists crossfade_private.tombstones (
  id bigint generated always as identity primary key,
  pair text not null references crossfade.pairs on delete cascade on update cascade,
  side smallint not null,
  key jsonb not null
);

comment on table crossfade_private.tombstones is
  'Keys deleted while a backfill runs. A deleter above READ COMMITTED may not see the copy made meanwhile; the final sweep removes it.';

create unlogged table if not exists crossfade_private.truncated_keys (
  pair text not null,
  side smallint not null,
  key jsonb not null
);

comment on table crossfade_private.truncated_keys is
  'Keys of the counterparts of rows that a TRUNCATE under way empties. A transaction sees its own ones only, and leaves none.';

-- CREATE INDEX IF NOT EXISTS would lock the table where there is nothing to do. Clients write
-- these, and a release that waits for a client who waits for its end would never refresh a pair.
do $$
declare
  v_index record;
begin
  for v_index in
    select * from (values
      ('crossfade.mirror_failures_open_idx', 'create unique index mirror_failures_open_idx
        on crossfade.mirror_failures (pair, key) where resolved_at is null'),
      ('crossfade.mirror_failures_pair_idx', 'create index mirror_failures_pair_idx
        on crossfade.mirror_failures (pair, at)'),
      ('crossfade.mirror_failures_turn_idx', 'create index mirror_failures_turn_idx
        on crossfade.mirror_failures (pair, last_attempt_at nulls first, id)
        where resolved_at is null'),
      ('crossfade.mirror_failures_side_idx', 'create index mirror_failures_side_idx
        on crossfade.mirror_failures (pair, written_side) where resolved_at is null'),
      -- Few rows or none: asked by every write that finds no counterpart.
      ('crossfade.mirror_failures_moved_idx', 'create index mirror_failures_moved_idx
        on crossfade.mirror_failures (pair) where resolved_at is null and moved_to is not null'),
      ('crossfade_private.tombstones_pair_idx', 'create index tombstones_pair_idx
        on crossfade_private.tombstones (pair, side, id)'),
      -- A hash has no longest key: an index that refuses one would fail the delete that leaves it.
      ('crossfade_private.tombstones_key_idx', 'create index tombstones_key_idx
        on crossfade_private.tombstones using hash (key)')
    ) i(name, statement)
    where to_regclass(i.name) is null
  loop
    execute v_index.statement;
  end loop;
end $$;

-- tables/runs.sql ---------------------------------------------------------------------------------

-- Runs: work in batches that survives a crash anywhere, because the cursor moves in the batch's
-- own transaction.

create table if not exists crossfade.runs (
  id bigint generated always as identity primary key,
  kind text not null,
  pair text not null references crossfade.pairs on delete cascade on update cascade,
  direction text not null,
  state text not null default 'running',
  reason text,
  rows_total bigint not null default 0,
  swept_rows bigint not null default 0,
  v1_requests bigint not null default 0,
  v1_p95_ms double precision,
  v1_error_rate numeric,
  fingerprint text not null,
  converter_hash text not null,
  started_by text not null default crossfade_private.actor(),
  started_at timestamptz not null default clock_timestamp(),
  finished_at timestamptz,
  constraint kind_is_known check (kind in ('backfill', 'verify')),
  constraint direction_is_known check (direction in ('v1_to_v2', 'v2_to_v1')),
  constraint run_state_is_known check (state in ('running', 'paused', 'finished', 'cancelled'))
);

create index if not exists runs_pair_idx on crossfade.runs (pair, kind, id desc);
create unique index if not exists runs_active_idx
  on crossfade.runs (pair, kind) where state in ('running', 'paused');

comment on table crossfade.runs is
  'A backfill or a verify pass over a pair. rows_total is an estimate made at the start; at most one active run per pair and kind.';
comment on column crossfade.runs.v1_requests is
  'Requests that V1 answered in the minutes before the run: with v1_p95_ms and v1_error_rate (null without requests) what batches are held to. Taken anew when V1 stays slow while no batch runs.';

create table if not exists crossfade.run_ranges (
  run bigint not null references crossfade.runs on delete cascade,
  range integer not null,
  after_key jsonb,
  upto_key jsonb,
  cursor_key jsonb,
  done boolean not null default false,
  rows_done bigint not null default 0,
  rows_written bigint not null default 0,
  mismatches bigint not null default 0,
  batches bigint not null default 0,
  batch_rows integer not null,
  ms_per_1000_rows numeric[] not null default '{}',
  timeouts integer not null default 0,
  progress_at timestamptz not null default clock_timestamp(),
  converters_seen text not null default '',
  converters_seen_at timestamptz not null default '-infinity',
  is_busy boolean not null default true,
  load_seen_at timestamptz not null default clock_timestamp(),
  load_seen bigint,
  primary key (run, range)
);

comment on table crossfade.run_ranges is
  'Disjoint key ranges of a run, (after_key, upto_key]; null is open. A worker holds one range by its row lock for one batch.';
comment on column crossfade.run_ranges.timeouts is
  'Batches in a row that ran into a timeout.';
comment on column crossfade.run_ranges.converters_seen is
  'Version of the two converters'' rows when their hash was last compared, at converters_seen_at.';
comment on column crossfade.run_ranges.is_busy is
  'Whether anybody else used the database between the last two looks. load_seen: transactions of others by then, at load_seen_at; null before the first look.';

create table if not exists crossfade.mismatches (
  id bigint generated always as identity primary key,
  pair text not null references crossfade.pairs on delete cascade on update cascade,
  run bigint references crossfade.runs on delete set null,
  key jsonb not null,
  kind text not null,
  columns text[] not null default '{}',
  found_at timestamptz not null default clock_timestamp(),
  resolved_at timestamptz,
  resolution text,
  last_attempt_at timestamptz,
  message text,
  is_slow boolean not null default false,
  preserved jsonb,
  constraint mismatch_kind_is_known check (kind in ('missing_v1', 'missing_v2', 'different'))
);

create unique index if not exists mismatches_open_idx
  on crossfade.mismatches (pair, key) where resolved_at is null;
create index if not exists mismatches_pair_idx on crossfade.mismatches (pair);
create index if not exists mismatches_run_idx on crossfade.mismatches (run);
create index if not exists mismatches_turn_idx
  on crossfade.mismatches (pair, last_attempt_at nulls first, id) where resolved_at is null;

comment on table crossfade.mismatches is
  'Rows that differ between the tables of a pair, confirmed by a second look; open while resolved_at is null. columns names the V1 columns and, as v2.NAME, the V2 columns that differ. preserved is the row a repair replaced or deleted.';
comment on column crossfade.mismatches.last_attempt_at is
  'When a repair last tried the row without success; null: never. The longest waiting come first.';
comment on column crossfade.mismatches.is_slow is
  'A repair of it, maybe among others, ran into a timeout: it is tried alone from then on.';
comment on column crossfade.mismatches.message is
  'Why the rows cannot be compared, or could not be repaired.';

create table if not exists crossfade_private.verify_cursors (
  pair text primary key references crossfade.pairs on delete cascade on update cascade,
  cursor_key jsonb,
  rows_checked bigint not null default 0,
  passes bigint not null default 0,
  checked_at timestamptz not null default clock_timestamp()
);

comment on table crossfade_private.verify_cursors is
  'Where verify_some stands; passes counts how often it has come to the end.';

create table if not exists crossfade_private.key_fills (
  table_name text,
  column_name text,
  cursor_key jsonb,
  done boolean not null default false,
  rows_done bigint not null default 0,
  rows_written bigint not null default 0,
  batches bigint not null default 0,
  batch_rows integer not null,
  ms_per_1000_rows numeric[] not null default '{}',
  started_at timestamptz not null default clock_timestamp(),
  progress_at timestamptz not null default clock_timestamp(),
  is_busy boolean not null default true,
  load_seen_at timestamptz not null default clock_timestamp(),
  load_seen bigint,
  primary key (table_name, column_name)
);

comment on table crossfade_private.key_fills is
  'How far the column of a carried key is filled, by the table''s primary key. The columns mean what they mean in crossfade.run_ranges.';

-- tables/requests.sql -----------------------------------------------------------------------------

-- Request metrics: minute buckets with a latency histogram, the streak of errors, counts by hour,
-- so that a month can be looked at in a moment, and totals that only grow.

create table if not exists crossfade.request_minutes (
  pair text not null,
  minute timestamptz not null,
  step bigint not null,
  backend_version smallint not null,
  wire_version smallint not null,
  flag_set text not null default '',
  outcome text not null,
  latency_bucket smallint not null,
  requests bigint not null,
  last_at timestamptz not null,
  primary key (
    pair, minute, step, backend_version, wire_version, flag_set, outcome, latency_bucket
  ),
  constraint outcome_is_known check (
    outcome in ('ok', 'error', 'fallback', 'client_error', 'shadow_match', 'shadow_mismatch')
  ),
  constraint latency_bucket_is_0_to_79 check (latency_bucket between 0 and 79)
)
-- Counters are updated in place: free space in a page keeps them off the index.
with (fillfactor = 70);

comment on table crossfade.request_minutes is
  'Requests counted by minute, rollout step, backend and wire version, flag set, outcome and latency. No foreign key: counts outlive their pair. Nothing purges it; delete from crossfade.request_minutes where minute < ... at will.';
comment on column crossfade.request_minutes.latency_bucket is
  'floor(4 * log2(ms)) + 1, clamped to 0..79; 0 = below 1 ms; the upper bound of bucket i is 2^(i/4) ms.';
comment on column crossfade.request_minutes.last_at is
  'When the newest of these requests was recorded.';

create table if not exists crossfade_private.request_streaks (
  pair text primary key,
  step bigint not null,
  errors bigint not null
);

comment on table crossfade_private.request_streaks is
  'Consecutive V2 errors at the end of what has been recorded for a step. No row means none.';

create table if not exists crossfade.request_hours (
  pair text not null,
  hour timestamptz not null,
  backend_version smallint not null,
  wire_version smallint not null,
  outcome text not null,
  latency_bucket smallint not null,
  requests bigint not null,
  primary key (pair, hour, backend_version, wire_version, outcome, latency_bucket)
);

comment on table crossfade.request_hours is
  'request_minutes summed by hour, without step and flag set. Filled by roll_up_requests; the hours since then are in request_minutes only. It keeps its hours when minutes are purged.';

create table if not exists crossfade.request_totals (
  pair text not null,
  backend_version smallint not null,
  wire_version smallint not null,
  outcome text not null,
  latency_bucket smallint not null,
  requests bigint not null,
  primary key (pair, backend_version, wire_version, outcome, latency_bucket)
);

comment on table crossfade.request_totals is
  'All requests that roll_up_requests has summed, ever. With the minutes since then it is a counter that never falls.';

create table if not exists crossfade_private.rollup (
  singleton boolean primary key default true,
  upto timestamptz not null default '-infinity',
  constraint rollup_has_one_row check (singleton)
);

insert into crossfade_private.rollup default values on conflict do nothing;

comment on table crossfade_private.rollup is
  'One row. Every minute before upto is in request_hours and request_totals; no later one is.';

-- tables/health.sql -------------------------------------------------------------------------------

-- What the health rules said, and what they see besides requests: the memory of isolates, how V1
-- answered before it was mirrored, whether anybody watches at all, who may see what.

create table if not exists crossfade.verdicts (
  id bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(),
  pair text not null,
  rule text not null,
  verdict text not null,
  mode text not null,
  value double precision,
  n bigint,
  bound double precision,
  threshold double precision,
  window_s double precision,
  rule_version integer not null default 1,
  details jsonb not null default '{}',
  breach_since timestamptz,
  constraint verdict_is_known check (verdict in ('PASS', 'HOLD', 'ERROR', 'FAIL')),
  constraint mode_is_known check (mode in ('enforce', 'warn', 'dry_run', 'off'))
);

create index if not exists verdicts_pair_rule_idx on crossfade.verdicts (pair, rule, id desc);

comment on table crossfade.verdicts is
  'What each health rule said at each evaluation, with what it was decided on. value, n, bound, threshold and window_s are null where a rule has none; breach_since is null unless the verdict is HOLD or FAIL.';

create table if not exists crossfade.write_minutes (
  pair text not null references crossfade.pairs on delete cascade on update cascade,
  minute timestamptz not null,
  step bigint not null,
  side smallint not null,
  source text not null,
  statements bigint not null,
  primary key (pair, minute, step, side, source),
  constraint side_is_1_or_2 check (side in (1, 2)),
  constraint source_is_known check (source in ('user', 'service', 'direct'))
);

comment on table crossfade.write_minutes is
  'Statements that wrote a mirrored table, by the side they named and where they came from: user (roles anon and authenticated of the Data API), service (service_role), direct (everybody else). What the mirror and batches write does not count; a statement counts also when it found no row or was rolled back. minute is when the counters were read: by the monitor, at each step, and by pair_writes.';

create table if not exists crossfade_private.write_counters (
  pair text not null references crossfade.pairs on delete cascade on update cascade,
  side smallint not null,
  source text not null,
  counted bigint not null default 0,
  primary key (pair, side, source)
);

comment on table crossfade_private.write_counters is
  'How far the sequences that mirror triggers count with have been read into write_minutes.';

create table if not exists crossfade.memory_reports (
  id bigint generated always as identity primary key,
  pair text not null,
  at timestamptz not null default clock_timestamp(),
  used_bytes bigint not null,
  constraint used_bytes_is_positive check (used_bytes > 0)
);

create index if not exists memory_reports_pair_at_idx on crossfade.memory_reports (pair, at);

comment on table crossfade.memory_reports is
  'Memory that isolates of the edge function used, from events of record_requests with memory_bytes. Kept for an hour.';

create table if not exists crossfade.baselines (
  pair text primary key references crossfade.pairs on delete cascade on update cascade,
  at timestamptz not null default clock_timestamp(),
  requests bigint not null,
  p50_ms double precision not null,
  p95_ms double precision not null
);

comment on table crossfade.baselines is
  'How backend 1 answered in the last hour before the pair was mirrored, when it had enough requests (setting r9_min_requests). What R9 compares with.';

create table if not exists crossfade.monitors (
  singleton boolean primary key default true,
  holder text,
  generation bigint not null default 0,
  heartbeat_at timestamptz,
  lease_until timestamptz,
  constraint monitors_has_one_row check (singleton)
);

insert into crossfade.monitors default values on conflict do nothing;

comment on table crossfade.monitors is
  'One row: the monitor that decides now. All columns but generation are null when none runs. generation grows whenever another one takes over.';

create table if not exists crossfade.rls_checks (
  pair text primary key references crossfade.pairs on delete cascade on update cascade,
  at timestamptz not null default clock_timestamp(),
  users integer not null,
  differences integer not null
);

comment on table crossfade.rls_checks is
  'The last comparison of what users may see in both tables; differences above 0 block stage live.';

-- tables/rollouts.sql -----------------------------------------------------------------------------

-- Rollouts that follow a plan, and changes that wait for their time.

create table if not exists crossfade.rollouts (
  id bigint generated always as identity primary key,
  pair text not null references crossfade.pairs on delete cascade on update cascade,
  plan jsonb not null,
  state text not null default 'running',
  speed numeric not null default 1,
  reason text,
  approved text[] not null default '{}',
  started_at timestamptz not null default clock_timestamp(),
  started_by text not null default crossfade_private.actor(),
  changed_at timestamptz not null default clock_timestamp(),
  changed_by text not null default crossfade_private.actor(),
  extended_at timestamptz,
  finished_at timestamptz,
  constraint rollout_state_is_known check (
    state in ('running', 'held', 'rolled_back', 'aborted', 'finished')
  ),
  constraint speed_is_1_to_1000000 check (speed between 1 and 1000000)
);

create unique index if not exists rollouts_active_idx
  on crossfade.rollouts (pair) where state not in ('aborted', 'finished');
create index if not exists rollouts_pair_idx on crossfade.rollouts (pair, id desc);

comment on table crossfade.rollouts is
  'Plans under way and past ones; at most one active per pair. plan: {"name", "about", "steps": [{"name", "stage", "percentage", "flags", "min_s", "min_requests", "max_extension_s", "gates", "approval"}]}. approved: names of steps a person has approved. speed: how many times faster time runs, for rehearsals. reason: why it is held, rolled back or aborted.';
comment on column crossfade.rollouts.extended_at is
  'When somebody resumed it: the extension of the step counts from here. Null: from the step.';

create table if not exists crossfade.scheduled_changes (
  id bigint generated always as identity primary key,
  due_at timestamptz not null,
  changes jsonb not null,
  reason text not null,
  created_at timestamptz not null default clock_timestamp(),
  created_by text not null,
  state text not null default 'pending',
  done_at timestamptz,
  outcome jsonb,
  constraint state_is_known check (state in ('pending', 'applied', 'refused', 'cancelled'))
);

create index if not exists scheduled_changes_due_at_idx
  on crossfade.scheduled_changes (due_at) where state = 'pending';

comment on table crossfade.scheduled_changes is
  'Change sets that wait for their time, and what became of them. changes as apply_changes takes them; outcome: what was applied, or the error {"code", "message"} that refused it.';

-- tables/rollbacks.sql ----------------------------------------------------------------------------

-- The control state saved whole, and every rollback with what it kept.

create table if not exists crossfade.snapshots (
  id bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(),
  actor text not null,
  reason text not null default '',
  state jsonb not null
);

comment on table crossfade.snapshots is
  'Saved control state. state: {"flags_version", "wal_lsn", "flags": [row], "kill_switches": [row], "cohorts": [row], "pairs": [{name, stage, step, converter_hash, fingerprint, last_clean_verify_at, open_failures, v1_rows, v2_rows, ...}]}; rows are the planner''s estimates. Settings are not part of it.';

create table if not exists crossfade.rollbacks (
  id bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(),
  actor text not null,
  level text not null,
  scope text not null,
  reason text not null,
  automatic boolean not null default false,
  before jsonb not null,
  after jsonb not null,
  snapshot bigint references crossfade.snapshots on delete set null,
  flags_version bigint not null,
  preserved jsonb not null default '{}',
  constraint level_is_known check (level in ('FEATURE', 'PARTIAL', 'COMPLETE', 'EMERGENCY'))
);

create index if not exists rollbacks_snapshot_idx on crossfade.rollbacks (snapshot);

comment on table crossfade.rollbacks is
  'Log of rollbacks that changed something. before and after: object -> values of each changed object; snapshot: the state before it, null when somebody deleted that; preserved: pair -> {"open_failures", "rows": [{failure, row}], "truncated"}, what one table held alone at that moment.';

-- core/errors.sql ---------------------------------------------------------------------------------

-- How every function refuses.

create or replace function crossfade_private.fail(
  status integer, code text, message text, details jsonb default '{}', hint text default '',
  constraint_name text default ''
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  -- PTxyz becomes HTTP status xyz in PostgREST; 40001 is never used because PostgREST retries it.
  raise exception using
    errcode = 'PT' || fail.status,
    message = fail.message,
    detail = (fail.details || jsonb_build_object('code', fail.code))::text,
    hint = fail.hint,
    constraint = fail.constraint_name;
end $$;

comment on function crossfade_private.fail is
  'Raise SQLSTATE PT<status> whose detail is a JSON object with our code and the values that matter. constraint_name lets our own code know it again. Never returns.';

-- core/reasons.sql --------------------------------------------------------------------------------

-- Why a change is made, remembered for the audit of the transaction.

create or replace function crossfade_private.set_reason(reason text)
returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select set_config('crossfade.reason', coalesce(set_reason.reason, ''), true);
$$;

comment on function crossfade_private.set_reason is
  'Remember why, until the end of the transaction, for the audit rows that triggers write.';

create or replace function crossfade_private.reason()
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select nullif(current_setting('crossfade.reason', true), '');
$$;

comment on function crossfade_private.reason is
  'Why this transaction changes control rows; null when nobody said.';

create or replace function crossfade_private.require_reason(reason text, action text)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if coalesce(btrim(require_reason.reason), '') = '' then
    perform crossfade_private.fail(
      400, 'CF007', format('Cannot %s: a reason is required', action), '{}',
      'Say why in a few words; it is kept in the audit.');
  end if;
  perform crossfade_private.set_reason(require_reason.reason);
end $$;

comment on function crossfade_private.require_reason is
  'Refuse an empty reason (CF007), else remember it for the audit. action completes the sentence "Cannot ...".';

-- core/changes.sql --------------------------------------------------------------------------------

-- Every change of a control row raises the version, is audited and broadcast.

create or replace function crossfade.flags_version()
returns bigint
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select c.flags_version from crossfade.control c;
$$;

comment on function crossfade.flags_version is
  'The counter that every change of control rows raises.';

create or replace function crossfade_private.bump_version()
returns bigint
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  update crossfade.control set flags_version = flags_version + 1 returning flags_version;
$$;

comment on function crossfade_private.bump_version is
  'Raise flags_version by one and return it. Locks the one control row until the transaction ends, so control changes are serial.';

create or replace function crossfade_private.audit(
  action text, object text, reason text, before jsonb, after jsonb
)
returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  insert into crossfade.audit (
    actor, actor_id, action, object, reason, before, after, flags_version)
  values (
    crossfade_private.actor(), crossfade_private.actor_id(), audit.action, audit.object,
    coalesce(nullif(audit.reason, ''), crossfade_private.reason()),
    audit.before, audit.after, crossfade.flags_version()
  );
$$;

comment on function crossfade_private.audit is 'Write one audit row for the current actor.';

create or replace function crossfade_private.broadcast(event text, payload jsonb)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Realtime may be absent (plain Postgres). realtime.send itself turns its failures into warnings,
  -- so readers must also poll: a broadcast only makes a change visible sooner.
  if to_regprocedure('realtime.send(jsonb,text,text,boolean)') is null then
    return;
  end if;
  -- SAFETY: we run as the owner, and functions of Realtime have a search_path that we do not know:
  -- with an empty one, PostgreSQL takes the caller's temporary type for one of its own.
  if exists (
    select from pg_catalog.pg_type y
    join pg_catalog.pg_type k
      on k.typname = y.typname and k.typnamespace = 'pg_catalog'::regnamespace
    where y.typnamespace = pg_my_temp_schema()
  ) then
    raise warning
      'crossfade: broadcast % not sent: this session has temporary types with names of PostgreSQL''s own',
      broadcast.event;
    return;
  end if;
  execute 'select realtime.send($1, $2, $3, true)'
    using broadcast.payload, broadcast.event, 'crossfade:flags';
exception when others then
  raise warning 'crossfade: broadcast % failed: %', broadcast.event, sqlerrm;
end $$;

comment on function crossfade_private.broadcast is
  'Send a hint on the private topic crossfade:flags at COMMIT. Never raises; a failure is a WARNING.';

create or replace function crossfade_private.on_control_change()
returns trigger
language plpgsql volatile
security definer -- a hand edit through the Data API comes from a role that may not write the audit
set search_path = pg_catalog, pg_temp
as $$
declare
  v_before jsonb := case when tg_op <> 'INSERT' then to_jsonb(old) end;
  v_after jsonb := case when tg_op <> 'DELETE' then to_jsonb(new) end;
  v_row jsonb := coalesce(v_after, v_before);
begin
  if v_before is not distinct from v_after then
    return null;
  end if;
  perform crossfade_private.bump_version();
  perform crossfade_private.audit(
    case tg_table_name when 'kill_switches' then 'kill_switch' else rtrim(tg_table_name, 's') end
      || '.' || lower(tg_op),
    coalesce(v_row ->> 'name', v_row ->> 'pair'), null, v_before, v_after);
  perform crossfade_private.broadcast(
    'flags_changed', jsonb_build_object('flags_version', crossfade.flags_version()));
  return null;
end $$;

comment on function crossfade_private.on_control_change is
  'AFTER ROW trigger of the control tables: a real change raises flags_version, is audited (action flag.update, object = name) and broadcast, also when somebody edits the row by hand.';

create or replace function crossfade_private.before_control_change()
returns trigger
language plpgsql volatile
-- Definer: a hand edit through the Data API comes from a role that may not lock crossfade.control.
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Order matters, everywhere: fence, rows of crossfade.pairs by name, the control row, other rows.
  -- Without this lock a row would be locked before the control row, and a rollback could deadlock.
  perform 1 from crossfade.control c for update;
  return null;
end $$;

comment on function crossfade_private.before_control_change is
  'BEFORE STATEMENT trigger of the control tables: lock the control row first, so that control changes are serial and never deadlock.';

create or replace function crossfade_private.stamp_row()
returns trigger
language plpgsql volatile
-- Definer: API roles hold no right on crossfade_private.actor().
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  -- An update that changes nothing must stay one, or it would be audited and broadcast.
  if tg_op = 'UPDATE' and new is not distinct from old then
    return new;
  end if;
  new.updated_at := clock_timestamp();
  new.updated_by := crossfade_private.actor();
  return new;
end $$;

comment on function crossfade_private.stamp_row is
  'BEFORE ROW trigger: who changed the row last, and when. Leaves an unchanged row alone.';

-- core/settings.sql -------------------------------------------------------------------------------

-- Reading and changing settings.

create or replace function crossfade_private.setting(name text)
returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_value jsonb;
begin
  select s.value into v_value from crossfade.settings s where s.name = setting.name;
  if not found then
    perform crossfade_private.fail(
      404, 'CF015', format('Setting "%s" does not exist', setting.name),
      jsonb_build_object('setting', setting.name));
  end if;
  return v_value;
end $$;

comment on function crossfade_private.setting is
  'Value of a setting as JSON. CF015 when there is no such setting.';

create or replace function crossfade_private.setting_text(name text)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select crossfade_private.setting(setting_text.name) #>> '{}';
$$;

comment on function crossfade_private.setting_text is
  'Value of a setting as text (a JSON string without its quotes). CF015.';

create or replace function crossfade_private.setting_number(name text)
returns numeric
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select crossfade_private.setting_text(setting_number.name)::numeric;
$$;

comment on function crossfade_private.setting_number is
  'Value of a numeric setting. CF015; 22P02 when it is not a number.';

create or replace function crossfade_private.parse_setting(name text, kind text, value text)
returns jsonb
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_value jsonb;
begin
  v_value := case kind when 'string' then to_jsonb(value) else value::jsonb end;
  if jsonb_typeof(v_value) is distinct from kind then
    raise invalid_text_representation;
  end if;
  return v_value;
exception when invalid_text_representation then
  perform crossfade_private.fail(
    400, 'CF012', format('Cannot set "%s": %L is not a JSON %s', name, value, kind),
    jsonb_build_object('setting', name, 'value', value, 'expected', kind));
end $$;

comment on function crossfade_private.parse_setting is
  'Text to JSON of the given jsonb_typeof, which a setting keeps for ever. CF012.';

create or replace function crossfade.set_setting(name text, value text, reason text)
returns jsonb
language plpgsql volatile
-- Definer: API roles hold no right on crossfade_private and on crossfade.audit.
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_row crossfade.settings;
begin
  perform crossfade_private.require_reason(reason, format('set "%s"', set_setting.name));
  perform crossfade_private.setting(set_setting.name);
  update crossfade.settings s
  set value = crossfade_private.parse_setting(s.name, jsonb_typeof(s.value), set_setting.value)
  where s.name = set_setting.name
  returning s.* into v_row;
  return jsonb_build_object('setting', to_jsonb(v_row), 'flags_version', crossfade.flags_version());
exception when check_violation then
  perform crossfade_private.fail(
    400, 'CF012',
    format('Cannot set "%s": %s is outside its limits', set_setting.name, set_setting.value),
    (
      select jsonb_build_object(
        'setting', s.name, 'value', set_setting.value, 'minimum', s.minimum, 'maximum', s.maximum)
      from crossfade.settings s where s.name = set_setting.name
    ));
end $$;

comment on function crossfade.set_setting is
  'Change one setting. value is text: a number, true or false, a JSON array or object, or a plain string, of the type the setting has. Returns {"setting": row, "flags_version"}. CF007 no reason, CF012 wrong type or outside the limits, CF015 unknown.';

create or replace trigger crossfade_before_lock
before insert or update or delete on crossfade.settings
for each statement execute function crossfade_private.before_control_change();

create or replace trigger crossfade_before_stamp
before update on crossfade.settings
for each row execute function crossfade_private.stamp_row();

create or replace trigger crossfade_after_change
after insert or update or delete on crossfade.settings
for each row execute function crossfade_private.on_control_change();

-- core/histograms.sql -----------------------------------------------------------------------------

-- Latency histograms of recorded requests.

create or replace function crossfade_private.quantile_ms(
  histogram bigint[], quantile double precision
)
returns double precision
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
  with b as (
    select i - 1 as bucket, n, sum(n) over (order by i) as upto, sum(n) over () * quantile as wanted
    from unnest(histogram) with ordinality h(n, i)
  )
  select case when b.bucket = 0 then (b.wanted - b.upto + b.n) / b.n
    -- Between the bucket's bounds in proportion to its rank, on the log scale of the buckets.
    else power(2, (b.bucket - 1 + (b.wanted - b.upto + b.n) / b.n) / 4) end
  from b where b.n > 0 and b.upto >= b.wanted
  order by b.bucket limit 1;
$$;

comment on function crossfade_private.quantile_ms is
  'Quantile (0 to 1) in ms of a histogram of 80 counts, bucket 0 first; null when it is empty. At most 19 % off, the width of a bucket.';

-- core/rights.sql ---------------------------------------------------------------------------------

-- Who asks, and what the role of an operator allows.

create or replace function crossfade_private.is_api_user()
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- The role is what the Data API has set after it has checked the token, also inside SECURITY
  -- DEFINER. Claims with another role than service_role are a user's, whatever the role is called.
  select case coalesce(current_setting('role', true), 'none')
    when 'service_role' then false
    when 'anon' then true
    when 'authenticated' then true
    else coalesce(current_setting('request.jwt.claims', true), '') <> ''
  end;
$$;

comment on function crossfade_private.is_api_user is
  'True for a request of the Data API that did not come with the secret key: its rights are those of an operator, if it is one.';

create or replace function crossfade_private.operator_role()
returns text
language plpgsql stable
-- Definer: policies call it for users who may not read the table they ask about.
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if coalesce(current_setting('role', true), 'none') <> 'authenticated' then
    return null;
  end if;
  -- sub alone is taken from the token: every other claim, role and user_metadata among them, may
  -- hold what the user has chosen.
  return (
    select o.role from crossfade.operators o where o.user_id = crossfade_private.actor_id());
end $$;

comment on function crossfade_private.operator_role is
  'viewer, operator or admin for a signed-in operator; null for everybody else, the secret key too.';

create or replace function crossfade_private.has_role(role text)
returns boolean
language sql stable
-- Definer: as operator_role, which nobody else may call.
security definer
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(
    array_position('{viewer,operator,admin}'::text[], crossfade_private.operator_role())
      >= array_position('{viewer,operator,admin}'::text[], has_role.role), false);
$$;

comment on function crossfade_private.has_role is
  'Whether a signed-in operator asks whose role is this one or a higher one. What the policies use.';

create or replace function crossfade_private.require_role(role text, action text)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if not crossfade_private.is_api_user() or crossfade_private.has_role(role) then
    return;
  end if;
  perform crossfade_private.fail(
    403, 'CF020',
    case when crossfade_private.operator_role() is null
      then format('Cannot %s: %s is no operator of this project', action, crossfade_private.actor())
      else format('Cannot %s: %s is %s, and it needs %s', action, crossfade_private.actor(),
        crossfade_private.operator_role(), role)
    end,
    jsonb_build_object('needed', role, 'role', crossfade_private.operator_role()),
    case when crossfade_private.operator_role() is null
      then 'An admin can run: crossfade operator add EMAIL --role ' || role
      else 'An admin can run: crossfade operator set-role EMAIL ' || role
    end);
end $$;

comment on function crossfade_private.require_role is
  'Refuse (CF020) a signed-in user whose role is below viewer, operator or admin; let the secret key and direct connections pass. action completes the sentence "Cannot ...".';

-- flags/changes.sql -------------------------------------------------------------------------------

-- Changing a flag.

create or replace function crossfade_private.check_percentage(value jsonb)
returns numeric
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_percentage numeric;
begin
  if jsonb_typeof(value) in ('number', 'string')
    and (value #>> '{}') ~ '^[0-9]{1,3}([.][0-9]{1,20})?$' then
    v_percentage := (value #>> '{}')::numeric;
  end if;
  if v_percentage is null or v_percentage > 100 or scale(trim_scale(v_percentage)) > 3 then
    perform crossfade_private.fail(
      400, 'CF004',
      format('Percentage %s is not a number from 0 to 100 with at most three decimals', value),
      jsonb_build_object('percentage', value));
  end if;
  return v_percentage;
end $$;

comment on function crossfade_private.check_percentage is
  'A JSON number or numeric string from 0 to 100 with at most three decimals, as numeric. Never rounds. CF004.';

create or replace function crossfade_private.check_changes(object text, changes jsonb, kinds jsonb)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_bad record;
begin
  if jsonb_typeof(changes) is distinct from 'object' then
    perform crossfade_private.fail(
      400, 'CF012', format('Cannot change "%s": changes must be a JSON object', object),
      jsonb_build_object('changes', changes));
  end if;
  select c.key, c.value, k.value #>> '{}' as kind into v_bad
  from jsonb_each(changes) c
  left join jsonb_each(kinds) k on k.key = c.key
  where k.value is null or not case k.value #>> '{}'
    -- Lists hold ids, which are text everywhere: a number would be a second spelling of an id.
    when 'list' then jsonb_typeof(c.value) = 'array'
      and not jsonb_path_exists(c.value, 'strict $[*] ? (@.type() != "string")', silent => true)
    when 'percentage' then true
    when 'percentage or null' then true
    else jsonb_typeof(c.value) = k.value #>> '{}'
  end
  order by c.key
  limit 1;
  if found then
    perform crossfade_private.fail(
      400, 'CF012',
      case when v_bad.kind is null
        then format('Cannot change "%s": there is no field "%s"', object, v_bad.key)
        else format('Cannot change "%s": %s must be a %s and not %s', object, v_bad.key,
          case v_bad.kind when 'list' then 'list of strings' else v_bad.kind end,
          left(v_bad.value::text, 100))
      end,
      jsonb_build_object('field', v_bad.key, 'value', v_bad.value,
        'fields', (select jsonb_agg(k order by k) from jsonb_object_keys(kinds) k)));
  end if;
  if changes ? 'percentage'
    and not (
      changes -> 'percentage' = 'null' and kinds ->> 'percentage' = 'percentage or null') then
    perform crossfade_private.check_percentage(changes -> 'percentage');
  end if;
end $$;

comment on function crossfade_private.check_changes is
  'Refuse changes that are not an object, name an unknown field or hold a value of the wrong type (CF012), or a bad percentage (CF004). kinds: field -> boolean, string, list (of strings), percentage, "percentage or null".';

create or replace function crossfade.set_flag(name text, changes jsonb, reason text)
returns jsonb
language plpgsql volatile
-- Definer: API roles hold no right on crossfade_private and on crossfade.audit.
security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_row crossfade.flags;
  v_found boolean;
begin
  perform crossfade_private.require_reason(
    set_flag.reason, format('change flag "%s"', set_flag.name));
  perform crossfade_private.check_changes(set_flag.name, changes, '{
    "create": "boolean", "description": "string", "enabled": "boolean", "default_value": "boolean",
    "percentage": "percentage or null", "cohort_key": "string", "allow_user_ids": "list",
    "allow_agent_ids": "list", "deny_user_ids": "list", "deny_agent_ids": "list",
    "prerequisites": "list", "killed_by": "list"}');
  -- Order matters: see before_control_change.
  perform 1 from crossfade.control c for update;
  select f.* into v_row from crossfade.flags f where f.name = set_flag.name;
  v_found := found;
  if not v_found and not coalesce((changes ->> 'create')::boolean, false) then
    perform crossfade_private.fail(
      404, 'CF002', format('Unknown flag "%s"', set_flag.name),
      jsonb_build_object('flag', set_flag.name,
        'known', (select coalesce(jsonb_agg(f.name order by f.name), '[]') from crossfade.flags f)),
      'To add a flag, send "create": true.');
  end if;
  if not v_found then
    insert into crossfade.flags (name, cohort_key)
    values (set_flag.name, coalesce(changes ->> 'cohort_key', set_flag.name))
    returning * into v_row;
  end if;
  v_row := jsonb_populate_record(v_row, changes - 'create');
  update crossfade.flags f
  set description = v_row.description, enabled = v_row.enabled, percentage = v_row.percentage,
    default_value = v_row.default_value, cohort_key = v_row.cohort_key,
    allow_user_ids = v_row.allow_user_ids, allow_agent_ids = v_row.allow_agent_ids,
    deny_user_ids = v_row.deny_user_ids, deny_agent_ids = v_row.deny_agent_ids,
    prerequisites = v_row.prerequisites, killed_by = v_row.killed_by
  where f.name = set_flag.name
  returning f.* into v_row;
  return jsonb_build_object('flag', to_jsonb(v_row), 'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.set_flag is
  'Change the fields named in changes; the others stay. {"create": true} adds a flag that does not exist. Returns {"flag": row, "flags_version"}; a change that changes nothing raises no version. CF002 unknown flag, CF004 percentage, CF007 no reason, CF012 unknown field or wrong type.';

create or replace trigger crossfade_before_lock
before insert or update or delete on crossfade.flags
for each statement execute function crossfade_private.before_control_change();

create or replace trigger crossfade_before_stamp
before insert or update on crossfade.flags
for each row execute function crossfade_private.stamp_row();

create or replace trigger crossfade_after_change
after insert or update or delete on crossfade.flags
for each row execute function crossfade_private.on_control_change();

-- flags/buckets.sql -------------------------------------------------------------------------------

-- The bucket of a unit. The same algorithm exists in TypeScript and Python; tests/vectors pins
-- all three.

create or replace function crossfade.bucket(cohort_key text, unit text)
returns integer
language plpgsql immutable strict parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
  -- murmur3_x86_32 with seed 0 over UTF-8. In here and not in a function of its own: the call would
  -- cost a third more.
  v_bytes bytea := convert_to(cohort_key || ':' || unit, 'UTF8');
  v_length integer := length(v_bytes);
  v_hash bigint := 0;
  v_block bigint;
  v_at integer := 0;
begin
  while v_at < v_length loop
    v_block := get_byte(v_bytes, v_at);
    if v_at + 4 <= v_length then
      v_block := v_block | (get_byte(v_bytes, v_at + 1) << 8) | (get_byte(v_bytes, v_at + 2) << 16)
        | (get_byte(v_bytes, v_at + 3)::bigint << 24);
    else
      if v_at + 1 < v_length then
        v_block := v_block | (get_byte(v_bytes, v_at + 1) << 8);
      end if;
      if v_at + 2 < v_length then
        v_block := v_block | (get_byte(v_bytes, v_at + 2) << 16);
      end if;
    end if;
    -- SAFETY: a product of two 32-bit numbers overflows bigint, so the left one is split in halves.
    v_block := ((v_block & 65535) * 3432918353
      + (((v_block >> 16) * 3432918353 & 65535) << 16)) & 4294967295;
    v_block := (v_block << 15 & 4294967295) | (v_block >> 17);
    v_hash := v_hash # (((v_block & 65535) * 461845907
      + (((v_block >> 16) * 461845907 & 65535) << 16)) & 4294967295);
    if v_at + 4 <= v_length then
      v_hash := (((v_hash << 13 & 4294967295) | (v_hash >> 19)) * 5 + 3864292196) & 4294967295;
    end if;
    v_at := v_at + 4;
  end loop;
  v_hash := v_hash # v_length;
  v_hash := v_hash # (v_hash >> 16);
  v_hash := ((v_hash & 65535) * 2246822507
    + (((v_hash >> 16) * 2246822507 & 65535) << 16)) & 4294967295;
  v_hash := v_hash # (v_hash >> 13);
  v_hash := ((v_hash & 65535) * 3266489909
    + (((v_hash >> 16) * 3266489909 & 65535) << 16)) & 4294967295;
  v_hash := v_hash # (v_hash >> 16);
  return v_hash % 100 * 1000 + v_hash / 100 % 1000;
end $$;

comment on function crossfade.bucket is
  'Fixed number 0 to 99999 of a unit: h = murmur3_x86_32(utf8(cohort_key:unit)), h % 100 * 1000 + h / 100 % 1000; the unit is in when bucket < percentage * 1000. Equals Unleash at whole percentages. Null when an argument is null.';

-- flags/evaluation.sql ----------------------------------------------------------------------------

-- Evaluating a flag: the rules in their order. The same exists in TypeScript and Python;
-- tests/vectors pins all three.

create or replace function crossfade_private.unit(context jsonb)
returns text
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(nullif(context ->> 'user_id', ''), nullif(context ->> 'agent_id', ''),
    nullif(context ->> 'conversation_id', ''));
$$;

comment on function crossfade_private.unit is
  'What a percentage is taken over: the first of user_id, agent_id, conversation_id that is not empty; else null.';

create or replace function crossfade_private.flag_rules(
  flag crossfade.flags, context jsonb, follow boolean
)
returns table (
  place integer, rule text, matched boolean, value boolean, reason text, details jsonb
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_user text := nullif(context ->> 'user_id', '');
  v_agent text := nullif(context ->> 'agent_id', '');
  v_bucket integer := crossfade.bucket(flag.cohort_key, crossfade_private.unit(context));
  v_threshold integer := flag.percentage * 1000;
  v_switch text;
  v_unmet text;
begin
  select k.name into v_switch from crossfade.kill_switches k
  where k.engaged and (k.overrides_all or k.name = any (flag.killed_by))
  order by k.name collate "C" limit 1;
  if follow then
    select p.name into v_unmet
    from unnest(flag.prerequisites) with ordinality p(name, n)
    left join crossfade.flags f on f.name = p.name
    left join lateral (
      select r.value from crossfade_private.flag_rules(f, context, false) r
      where f.name is not null and r.matched order by r.place limit 1
    ) d on true
    where d.value is distinct from true
    order by p.n limit 1;
  end if;
  return query values
    (1, 'kill_switch', v_switch is not null, false, 'DISABLED',
      jsonb_build_object('kill_switch', v_switch)),
    (2, 'disabled', not flag.enabled, false, 'DISABLED', '{}'::jsonb),
    (3, 'prerequisite', v_unmet is not null, false, 'DISABLED',
      jsonb_build_object('prerequisite', v_unmet)),
    (4, 'deny', coalesce(v_user = any (flag.deny_user_ids), false)
      or coalesce(v_agent = any (flag.deny_agent_ids), false), false, 'TARGETING_MATCH', '{}'),
    (5, 'allow', coalesce(v_user = any (flag.allow_user_ids), false)
      or coalesce(v_agent = any (flag.allow_agent_ids), false), true, 'TARGETING_MATCH', '{}'),
    (6, 'percentage', v_threshold is not null and (v_threshold = 100000 or v_bucket is not null),
      coalesce(v_bucket < v_threshold, v_threshold = 100000, false), 'SPLIT',
      jsonb_build_object(
        'bucket', case when v_threshold is not null then v_bucket end, 'threshold', v_threshold)),
    (7, 'default', true, flag.default_value, 'DEFAULT', '{}');
end $$;

comment on function crossfade_private.flag_rules is
  'Every rule with whether it applies and what it would answer; the first that applies (by place) decides. follow: look at prerequisites, whose own prerequisites are not looked at, so that a circle ends.';

create or replace function crossfade.explain_flag(name text, context jsonb default '{}')
returns jsonb
language plpgsql stable
-- Definer: API roles hold no right on crossfade_private.
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_flag crossfade.flags;
  v_answer jsonb;
begin
  if jsonb_typeof(coalesce(context, '{}')) <> 'object' then
    perform crossfade_private.fail(
      400, 'CF012',
      format('Cannot evaluate "%s": context must be a JSON object', explain_flag.name),
      jsonb_build_object('context', context));
  end if;
  select f.* into v_flag from crossfade.flags f where f.name = explain_flag.name;
  if not found then
    return jsonb_build_object(
      'flag', explain_flag.name, 'value', false, 'variant', 'off', 'reason', 'ERROR',
      'error_code', 'FLAG_NOT_FOUND', 'steps', '[]'::jsonb,
      'metadata',
      jsonb_build_object('rule', 'unknown', 'flags_version', crossfade.flags_version()));
  end if;
  with r as materialized (
    select * from crossfade_private.flag_rules(v_flag, coalesce(context, '{}'), true)
  )
  select jsonb_build_object(
    'flag', explain_flag.name, 'value', d.value,
    'variant', case when d.value then 'on' else 'off' end, 'reason', d.reason,
    'metadata', jsonb_strip_nulls(d.details)
      || jsonb_build_object('rule', d.rule, 'flags_version', crossfade.flags_version()),
    'steps', (
      select jsonb_agg(jsonb_strip_nulls(s.details) || jsonb_build_object(
        'rule', s.rule, 'matched', s.matched, 'value', s.value, 'decides', s.place = d.place)
        order by s.place)
      from r s))
  into v_answer
  from r d where d.matched order by d.place limit 1;
  return v_answer;
end $$;

comment on function crossfade.explain_flag is
  'evaluate_flag plus "steps": every rule in order with rule, matched, the value it stands for, decides (true for one), and bucket, threshold, kill_switch or prerequisite.';

create or replace function crossfade.evaluate_flag(name text, context jsonb default '{}')
returns jsonb
language sql stable
-- Definer: as explain_flag.
security definer
set search_path = pg_catalog, pg_temp
as $$
  select crossfade.explain_flag(evaluate_flag.name, evaluate_flag.context) - 'steps';
$$;

comment on function crossfade.evaluate_flag is
  'Value of a flag for {"user_id", "agent_id", "conversation_id"}: {"flag", "value", "variant" on|off, "reason", "metadata": {"rule", "flags_version", ...}}. An unknown flag is false with error_code FLAG_NOT_FOUND. CF012 when context is not an object.';

-- flags/fence.sql ---------------------------------------------------------------------------------

-- The fence: a lock that makes a kill exact.

create or replace function crossfade_private.fence_lock_key()
returns bigint
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
  select 7161727193022001::bigint;
$$;

comment on function crossfade_private.fence_lock_key is
  'Advisory lock: direct V2 writers hold it shared, engaging a fencing kill switch holds it exclusively, so that no V2 write that began before a kill commits after it.';

create or replace function crossfade_private.fence_engaged(pair text)
returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return exists (
    select from crossfade.kill_switches k
    where k.engaged and k.fences
      and (k.overrides_all or coalesce(k.pair = fence_engaged.pair, true)));
end $$;

comment on function crossfade_private.fence_engaged is
  'Whether direct V2 writes of this pair are refused now. Reads one page; called once per direct V2 statement.';

create or replace function crossfade_private.close_fence()
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_started timestamptz := clock_timestamp();
  v_wait integer := crossfade_private.setting_number('kill_wait_ms');
  v_before text := current_setting('lock_timeout');
  v_in_flight boolean := false;
begin
  -- Direct V2 writers hold this lock shared until they end. New ones queue behind us and then see
  -- the engaged switch, so that nothing which began before the kill commits after it.
  begin
    if v_wait = 0 then
      v_in_flight := not pg_try_advisory_xact_lock(crossfade_private.fence_lock_key());
    else
      perform set_config('lock_timeout', v_wait || 'ms', true);
      perform pg_advisory_xact_lock(crossfade_private.fence_lock_key());
    end if;
  exception when lock_not_available then
    -- A kill is never refused: stragglers may still commit, and the caller is told.
    v_in_flight := true;
  end;
  perform set_config('lock_timeout', v_before, true);
  -- before_kill_switch_change must not wait a second time.
  perform set_config('crossfade.fence', 'closed', true);
  return jsonb_build_object(
    'waited_ms', round(extract(epoch from clock_timestamp() - v_started) * 1000, 1),
    'in_flight', v_in_flight);
end $$;

comment on function crossfade_private.close_fence is
  'Wait until the direct V2 writes that have begun end, at most setting kill_wait_ms, and hold new ones back until this transaction ends: {"waited_ms", "in_flight": some had not ended}.';

-- flags/kill_switches.sql -------------------------------------------------------------------------

-- Engaging a kill switch is one step; releasing it needs a reason.

create or replace function crossfade_private.before_kill_switch_change()
returns trigger
language plpgsql volatile
-- Definer: as before_control_change.
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Order matters: the fence comes before the control row. Only a hand edit has to close it here.
  if coalesce(current_setting('crossfade.fence', true), '') = '' then
    perform crossfade_private.close_fence();
  end if;
  perform 1 from crossfade.control c for update;
  return null;
end $$;

comment on function crossfade_private.before_kill_switch_change is
  'BEFORE STATEMENT trigger: a hand edit closes the fence like engage_kill_switch, then locks the control row.';

create or replace function crossfade_private.stamp_kill_switch()
returns trigger
language plpgsql volatile
-- Definer: API roles hold no right on crossfade_private.actor().
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if new.engaged and (tg_op = 'INSERT' or not old.engaged) then
    new.engaged_at := clock_timestamp();
    new.engaged_by := crossfade_private.actor();
    if tg_op = 'UPDATE' and new.reason is not distinct from old.reason then
      new.reason := crossfade_private.reason();
    end if;
  end if;
  return new;
end $$;

comment on function crossfade_private.stamp_kill_switch is
  'BEFORE ROW trigger: who engaged the switch, when and why. All three stay when it is released.';

create or replace function crossfade_private.after_kill_switch_change()
returns trigger
language plpgsql volatile
-- Definer: as before_control_change; realtime.messages also refuses most API roles.
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform crossfade_private.broadcast('kill', jsonb_build_object(
    'flags_version', crossfade.flags_version(), 'name', new.name, 'engaged', new.engaged));
  return null;
end $$;

comment on function crossfade_private.after_kill_switch_change is
  'AFTER ROW trigger: broadcast "kill" {flags_version, name, engaged} when engaged has changed.';

create or replace function crossfade_private.switch_kill(name text, engaged boolean, reason text)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_row crossfade.kill_switches;
  v_fence jsonb := '{"waited_ms": 0, "in_flight": false}'::jsonb;
  v_handled text := coalesce(current_setting('crossfade.fence', true), '');
  v_changed boolean;
begin
  select k.* into v_row from crossfade.kill_switches k where k.name = switch_kill.name;
  if not found then
    perform crossfade_private.fail(
      404, 'CF003', format('Unknown kill switch "%s"', switch_kill.name),
      jsonb_build_object('kill_switch', switch_kill.name,
        'known', (select jsonb_agg(k.name order by k.name) from crossfade.kill_switches k)));
  end if;
  if v_handled = '' then
    if switch_kill.engaged and v_row.fences then
      -- Also when it is engaged already: calling again tells whether stragglers are left.
      v_fence := crossfade_private.close_fence();
    else
      perform set_config('crossfade.fence', 'not needed', true);
    end if;
  end if;
  perform crossfade_private.set_reason(switch_kill.reason);
  update crossfade.kill_switches k
  set engaged = switch_kill.engaged
  where k.name = switch_kill.name and k.engaged is distinct from switch_kill.engaged
  returning k.* into v_row;
  v_changed := found;
  if not v_changed then
    select k.* into v_row from crossfade.kill_switches k where k.name = switch_kill.name;
  end if;
  perform set_config('crossfade.fence', v_handled, true);
  return v_fence || jsonb_build_object(
    'kill_switch', to_jsonb(v_row), 'changed', v_changed,
    'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade_private.switch_kill is
  'What engage_kill_switch and release_kill_switch share. CF003. Takes the fence lock, then the control row.';

create or replace function crossfade.engage_kill_switch(name text, reason text default null)
returns jsonb
language plpgsql volatile
-- Definer: API roles hold no right on crossfade_private and on crossfade.audit.
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  return crossfade_private.switch_kill(engage_kill_switch.name, true, engage_kill_switch.reason)
    || jsonb_build_object('committed_at', clock_timestamp());
end $$;

comment on function crossfade.engage_kill_switch is
  'Stop, in one step: no reason needed, safe to repeat (changed false). A fencing switch first waits, at most setting kill_wait_ms, for direct V2 writes that have begun, and holds new ones back meanwhile. Returns {"kill_switch": row, "changed", "committed_at", "waited_ms", "in_flight": V2 writes that may still commit, "flags_version"}. Only CF003.';

create or replace function crossfade.release_kill_switch(name text, reason text)
returns jsonb
language plpgsql volatile
-- Definer: as engage_kill_switch.
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform crossfade_private.require_reason(
    release_kill_switch.reason, format('release kill switch "%s"', release_kill_switch.name));
  return crossfade_private.switch_kill(release_kill_switch.name, false, release_kill_switch.reason)
    - 'waited_ms' - 'in_flight';
end $$;

comment on function crossfade.release_kill_switch is
  'End a stop. Returns {"kill_switch": row, "changed", "flags_version"}. CF003 unknown switch, CF007 no reason.';

create or replace trigger crossfade_before_lock
before insert or update or delete on crossfade.kill_switches
for each statement execute function crossfade_private.before_kill_switch_change();

create or replace trigger crossfade_before_stamp
before insert or update on crossfade.kill_switches
for each row execute function crossfade_private.stamp_kill_switch();

create or replace trigger crossfade_after_change
after insert or update or delete on crossfade.kill_switches
for each row execute function crossfade_private.on_control_change();

-- Named so that it fires after crossfade_after_change, which raises the version it sends.
create or replace trigger crossfade_after_kill
after update on crossfade.kill_switches
for each row when (old.engaged is distinct from new.engaged)
execute function crossfade_private.after_kill_switch_change();

-- flags/reading.sql -------------------------------------------------------------------------------

-- The snapshot that every isolate of the edge keeps.

create or replace function crossfade.read_flags(known_version bigint default null)
returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_version bigint := crossfade.flags_version();
begin
  if known_version = v_version then
    return jsonb_build_object('flags_version', v_version, 'unchanged', true);
  end if;
  -- Stable: every query in here sees one moment, so version and rows always belong together.
  return (
    select jsonb_build_object(
      'flags_version', crossfade.flags_version(),
      'flags', (
        select coalesce(jsonb_agg(to_jsonb(f) order by f.name), '[]') from crossfade.flags f),
      'kill_switches', (
        select coalesce(jsonb_agg(to_jsonb(k) order by k.name), '[]')
        from crossfade.kill_switches k),
      'pairs', (
        select coalesce(jsonb_agg(jsonb_build_object(
          'name', p.name, 'stage', p.stage, 'gate_flag', p.gate_flag, 'step', p.step,
          'cohort', to_jsonb(c)) order by p.name), '[]')
        from crossfade.pairs p left join crossfade.cohorts c on c.pair = p.name),
      'settings', (
        select coalesce(jsonb_object_agg(s.name, s.value), '{}') from crossfade.settings s)));
end $$;

comment on function crossfade.read_flags is
  'Everything an evaluator needs, as of one moment: {"flags_version", "flags": [row], "kill_switches": [row], "pairs": [{name, stage, gate_flag, step, cohort}], "settings": {name: value}}; {"flags_version", "unchanged": true} when known_version is current.';

-- flags/exposures.sql -----------------------------------------------------------------------------

-- Feature adoption: how often each flag was answered with what, counted by minute.

create or replace function crossfade_private.check_exposures(batch jsonb)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_bad record;
  v_value jsonb;
begin
  if jsonb_typeof(batch) is distinct from 'array' or jsonb_array_length(batch) > 10000 then
    perform crossfade_private.fail(
      400, 'CF012', 'Cannot record exposures: batch must be a JSON array of at most 10000 entries',
      jsonb_build_object('field', 'batch'));
  end if;
  select e.n - 1 as place, e.entry, f.field into v_bad
  from jsonb_array_elements(batch) with ordinality e(entry, n)
  cross join lateral (
    values
    (1, 'entry', jsonb_typeof(entry) = 'object'),
    (2, 'flag', jsonb_typeof(entry -> 'flag') = 'string'),
    (3, 'variant', jsonb_typeof(entry -> 'variant') = 'string'
      and entry ->> 'variant' in ('on', 'off')),
    (4, 'reason', jsonb_typeof(entry -> 'reason') = 'string' and entry ->> 'reason'
      in ('STATIC', 'DEFAULT', 'TARGETING_MATCH', 'SPLIT', 'DISABLED', 'STALE', 'ERROR')),
    (5, 'count', case jsonb_typeof(coalesce(entry -> 'count', 'null'))
      when 'null' then true when 'number' then (entry ->> 'count') ~ '^[1-9][0-9]{0,8}$' end)
  ) as f (place, field, valid)
  where f.valid is not true
  order by e.n, f.place
  limit 1;
  if found then
    v_value := case v_bad.field when 'entry' then v_bad.entry else v_bad.entry -> v_bad.field end;
    perform crossfade_private.fail(
      400, 'CF012',
      format('Cannot record exposures: entry %s has the invalid %s %s', v_bad.place, v_bad.field,
        left(coalesce(v_value, 'null')::text, 100)),
      jsonb_build_object('entry', v_bad.place, 'field', v_bad.field, 'value', v_value));
  end if;
end $$;

comment on function crossfade_private.check_exposures is
  'Refuse a batch with an entry that cannot be counted, naming the first one (from 0), its field and value. CF012.';

create or replace function crossfade_private.purge_exposures()
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_keep_days numeric := crossfade_private.setting_number('exposures_keep_days');
begin
  -- A bounded part with every batch: nothing needs a timer, and nobody waits for a large delete.
  delete from crossfade.flag_exposures x
  where x.ctid = any (array(
    select o.ctid from crossfade.flag_exposures o
    where o.minute
      < clock_timestamp() - make_interval(secs => v_keep_days::double precision * 86400)
    order by o.minute
    limit 1000
    for update skip locked));
end $$;

comment on function crossfade_private.purge_exposures is
  'Delete at most 1000 of the rows that are older than setting exposures_keep_days; skips rows that another caller is deleting.';

create or replace function crossfade.record_exposures(batch jsonb)
returns jsonb
language plpgsql volatile
-- Definer: API roles hold no right on the tables it writes.
security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_recorded bigint;
  v_total bigint;
begin
  perform crossfade_private.check_exposures(batch);
  with e as materialized (
    select a.entry ->> 'flag' as flag, a.entry ->> 'variant' as variant,
      a.entry ->> 'reason' as reason, coalesce((a.entry ->> 'count')::bigint, 1) as exposures,
      f.name is not null as is_known
    from jsonb_array_elements(batch) a(entry)
    -- An isolate may still count a flag that has been deleted, and names must stay bounded.
    left join crossfade.flags f on f.name = a.entry ->> 'flag'
  ),
  counted as (
    insert into crossfade.flag_exposures as x (flag, minute, variant, reason, exposures)
    select e.flag, date_trunc('minute', clock_timestamp()), e.variant, e.reason, sum(e.exposures)
    from e
    where e.is_known
    group by e.flag, e.variant, e.reason
    -- Order matters: two callers that lock the same rows in one order cannot deadlock.
    order by e.flag, e.variant, e.reason
    on conflict (minute, flag, variant, reason)
    do update set exposures = x.exposures + excluded.exposures
  )
  select coalesce(sum(e.exposures) filter (where e.is_known), 0), coalesce(sum(e.exposures), 0)
  into v_recorded, v_total
  from e;
  perform crossfade_private.purge_exposures();
  return jsonb_build_object(
    'recorded', v_recorded, 'ignored', v_total - v_recorded,
    'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.record_exposures is
  'Count answers of flags in the current minute of crossfade.flag_exposures. batch: array of {"flag", "variant": on|off, "reason", "count"?}; all or nothing, except that unknown flags are ignored. Safe for any number of callers at once. Returns {"recorded", "ignored", "flags_version"}. CF012 names the entry, field and value.';

-- pairs/templates.sql -----------------------------------------------------------------------------

-- Filling a template with pieces of SQL.

create or replace function crossfade_private.render(template text, pieces jsonb)
returns text
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_piece constant text := '\{([a-z][a-z0-9_]*)\}';
  -- What lies between the pieces, one more than there are pieces.
  v_between text[] := regexp_split_to_array(template, v_piece);
  v_name text;
  v_number integer := 1;
  v_sql text := v_between[1];
begin
  -- Once through the template and not piece by piece: a fragment may hold braces of its own.
  for v_name in select m[1] from regexp_matches(template, v_piece, 'g') m loop
    if not pieces ? v_name then
      raise exception 'crossfade: template has an unknown piece: {%}', v_name;
    end if;
    v_number := v_number + 1;
    v_sql := v_sql || (pieces ->> v_name) || v_between[v_number];
  end loop;
  return v_sql;
end $$;

comment on function crossfade_private.render is
  'Fill {piece} by its SQL fragment. Every fragment is quoted with format(%I, %L) when it is made. Raises P0001 for a piece that is not there.';

-- pairs/types.sql ---------------------------------------------------------------------------------

-- What a type is made of. Types are judged by their base: a domain hides what it is, and a cast to
-- a domain over varchar(n) would cut what the table itself refuses.

create or replace function crossfade_private.base_type(type_id oid)
returns oid
-- Not SQL: registration asks hundreds of times, and most types are their own base.
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_type record;
  v_element oid;
begin
  select y.typtype, y.typbasetype, y.typcategory, y.typelem into v_type
  from pg_catalog.pg_type y where y.oid = type_id;
  if v_type.typtype = 'd' then
    return crossfade_private.base_type(v_type.typbasetype);
  end if;
  -- An array of a domain is an array of what the domain is made of.
  if v_type.typcategory = 'A' and v_type.typelem <> 0 then
    v_element := crossfade_private.base_type(v_type.typelem);
    if v_element <> v_type.typelem then
      return (select y.typarray from pg_catalog.pg_type y where y.oid = v_element);
    end if;
  end if;
  return type_id;
end $$;

comment on function crossfade_private.base_type is
  'The type under all domains; for an array of a domain the array of the domain''s base type.';

create or replace function crossfade_private.base_type_name(type_id oid)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- Without a length: what is too long must be refused by the table, not cut.
  select pg_catalog.format_type(crossfade_private.base_type(type_id), -1);
$$;

comment on function crossfade_private.base_type_name is
  'Name of the base type, without length or precision, to cast to.';

create or replace function crossfade_private.base_typmod(type_id oid, typmod integer)
returns integer
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with recursive layer(id, typmod, depth) as (
    select type_id, typmod, 0
    union all
    select case when y.typtype = 'd' then y.typbasetype else y.typelem end,
      case when y.typtype = 'd' then y.typtypmod else l.typmod end, l.depth + 1
    from layer l join pg_catalog.pg_type y on y.oid = l.id
    where y.typtype = 'd' or y.typcategory = 'A' and y.typelem <> 0
  )
  -- The length of an array is that of its elements.
  select l.typmod from layer l order by l.depth desc limit 1;
$$;

comment on function crossfade_private.base_typmod is
  'Length or precision of a column as PostgreSQL keeps it, found below domains and arrays; -1 is none.';

create or replace function crossfade_private.type_parts(type_id oid)
returns setof oid
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with recursive part(id) as (
    select type_id
    union
    select p.id
    from part t
    join pg_catalog.pg_type y on y.oid = t.id
    cross join lateral (
      select y.typbasetype as id where y.typtype = 'd'
      union all
      select y.typelem where y.typcategory = 'A' and y.typelem <> 0
      union all
      select r.rngsubtype from pg_catalog.pg_range r where y.oid in (r.rngtypid, r.rngmultitypid)
      union all
      select a.atttypid from pg_catalog.pg_attribute a
      where y.typtype = 'c' and a.attrelid = y.typrelid and a.attnum > 0 and not a.attisdropped
    ) p
  )
  select p.id from part p;
$$;

comment on function crossfade_private.type_parts is
  'A type and all that it is made of: the base of a domain, the elements of an array, the bounds of a range, the columns of a composite, and their parts.';

-- pairs/assignment.sql ----------------------------------------------------------------------------

-- Assigning a value to a column inside an expression. An explicit cast cuts what is too long; what
-- a converter makes must be refused, rounded or padded as a table does it.

create or replace function crossfade_private.assigned_sql(
  expression text, type_id oid, typmod integer, given_type oid, given_typmod integer
)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when given_type = b.id and b.typmod in (-1, given_typmod)
      or given_type = type_id and given_type <> b.id -- a value of the domain
      then format('(%s)::%s', expression, b.name)
    -- PostgreSQL casts the parts of a composite as the whole is cast.
    when exists (
      select from crossfade_private.type_parts(b.id) p(id)
      join pg_catalog.pg_type y on y.oid = p.id and y.typtype = 'c') then null
    when b.typmod = -1 then format('(%s)::%s', expression, b.name)
    -- By a cast, text is cut; by the function that the cast calls, it is refused as by a table.
    when l.arguments = 3 and b.is_array then null
    when l.arguments = 3
      then format('%s((%s)::%s, %s, false)', l.name, expression, b.name, b.typmod)
    else format('(%s)::%s', expression, format_type(b.id, b.typmod))
    end
  from (
    select crossfade_private.base_type(type_id) as id,
      crossfade_private.base_typmod(type_id, typmod) as typmod,
      crossfade_private.base_type_name(type_id) as name,
      y.typcategory = 'A' and y.typelem <> 0 as is_array,
      case when y.typcategory = 'A' and y.typelem <> 0 then y.typelem else y.oid end as element
    from pg_catalog.pg_type y where y.oid = crossfade_private.base_type(type_id)
  ) b
  left join lateral (
    select p.pronargs as arguments, format('%I.%I', n.nspname, p.proname) as name
    from pg_catalog.pg_cast c
    join pg_catalog.pg_proc p on p.oid = c.castfunc
    join pg_catalog.pg_namespace n on n.oid = p.pronamespace
    where c.castsource = b.element and c.casttarget = b.element
  ) l on true;
$$;

comment on function crossfade_private.assigned_sql is
  'An expression, of a given type, as an INSERT would assign it to a column: rounded, padded or refused, never cut; of the base type, whose domains'' checks are left to the table. Null where only a call does that.';

-- pairs/comparison.sql ----------------------------------------------------------------------------

-- Comparing the values of a column, whatever its type.

create or replace function crossfade_private.json_value(source json)
returns jsonb
-- Not parallel safe: a subtransaction cannot begin in a worker.
language plpgsql immutable strict
set search_path = pg_catalog, pg_temp
as $$
begin
  return source::jsonb;
exception when others then
  -- json holds what jsonb refuses, such as \u0000: that text is its own value.
  return to_jsonb(source::text);
end $$;

comment on function crossfade_private.json_value is
  'A json value to compare by; never raises.';

create or replace function crossfade_private.differs_sql(
  type_id oid, one_sql text, other_sql text
)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select case
    -- Types whose = hides nothing. It is pg_catalog's own, whatever an extension brings.
    when b.id in ('bool'::regtype, 'int2'::regtype, 'int4'::regtype, 'int8'::regtype,
        'oid'::regtype, 'uuid'::regtype, 'date'::regtype, 'time'::regtype, 'timestamp'::regtype,
        'timestamptz'::regtype, 'bytea'::regtype)
      then format('%s is distinct from %s', one_sql, other_sql)
    -- C: other collations may find different texts equal, and two of them cannot be compared.
    when b.id in ('text'::regtype, 'varchar'::regtype)
      then format('%s collate pg_catalog."C" is distinct from %s', one_sql, other_sql)
    when b.id = 'jsonb'::regtype
      then format('(%s and (%s is distinct from %s or %s))', i.image, one_sql, other_sql, i.texts)
    -- Their text is what is stored, or hides blanks at the end.
    when b.id in ('bpchar'::regtype, 'json'::regtype) then i.image
    -- Equal images are equal values, found without any operator. Values with other images may still
    -- be the same: arrays that once held a null, NaN, numbers of an older release.
    else format('(%s and %s)', i.image, i.texts)
    end
  from crossfade_private.base_type(type_id) b(id)
  cross join lateral (
    select format('row((%1$s)::%3$s)::record operator(pg_catalog.*<>) row((%2$s)::%3$s)::record',
        one_sql, other_sql, pg_catalog.format_type(b.id, -1)) as image,
      format('(%1$s)::%3$s::text collate pg_catalog."C" is distinct from (%2$s)::%3$s::text',
        one_sql, other_sql, pg_catalog.format_type(b.id, -1)) as texts
  ) i;
$$;

comment on function crossfade_private.differs_sql is
  'SQL that says whether two values of a column differ in anything at all, also in what equality hides (the scale of a number, 30 days and a month, the sign of zero). Statements with it run with pinned settings: it compares texts.';

create or replace function crossfade_private.has_equality(type_id oid)
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- Every part must have an equality of PostgreSQL's own. Operators of extensions are not found
  -- with our search_path, and some types have none or (boxes) one that compares areas.
  select not exists (
    select from crossfade_private.type_parts(type_id) p(id)
    join pg_catalog.pg_type y on y.oid = p.id
    where y.typtype = 'b' and y.typcategory <> 'A' and (
      y.typnamespace <> 'pg_catalog'::regnamespace or not exists (
        select from pg_catalog.pg_opclass c
        join pg_catalog.pg_am m on m.oid = c.opcmethod and m.amname in ('btree', 'hash')
        where c.opcdefault and c.opcintype = case y.oid when 'varchar'::regtype
          then 'text'::regtype else y.oid end)));
$$;

comment on function crossfade_private.has_equality is
  'Whether two values of a type can be compared by =, found without extensions.';

create or replace function crossfade_private.unequal_sql(
  type_id oid, one_sql text, other_sql text
)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when b.id in ('text'::regtype, 'varchar'::regtype)
      then crossfade_private.differs_sql(type_id, one_sql, other_sql)
    when b.id = 'pg_catalog.json'::regtype then format(
      '(%s and crossfade_private.json_value(%s) is distinct from crossfade_private.json_value(%s))',
      crossfade_private.differs_sql(type_id, one_sql, other_sql), one_sql, other_sql)
    when crossfade_private.has_equality(b.id) then format(
      '(%1$s)::%3$s%4$s is distinct from (%2$s)::%3$s',
      one_sql, other_sql, pg_catalog.format_type(b.id, -1),
      case when y.typcollation <> 0 then ' collate pg_catalog."C"' else '' end)
    else crossfade_private.differs_sql(type_id, one_sql, other_sql)
    end
  from crossfade_private.base_type(type_id) b(id)
  join pg_catalog.pg_type y on y.oid = b.id;
$$;

comment on function crossfade_private.unequal_sql is
  'SQL that says whether two values of a column are unequal by their type: as differs_sql, but for what only looks different (1.1 and 1.10, 30 days and a month, json with other blanks).';

create or replace function crossfade_private.column_differences(
  tab regclass, one_sql text, other_sql text
)
returns table (name text, differs text, unequal text, breaks text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select a.attname::text, d.differs, d.unequal,
    case when exists (
      select from crossfade_private.type_parts(a.atttypid) p(id) where p.id = 'interval'::regtype)
      then d.differs else d.unequal end
  from pg_catalog.pg_attribute a
  cross join lateral (
    select crossfade_private.differs_sql(a.atttypid, v.one, v.other) as differs,
      crossfade_private.unequal_sql(a.atttypid, v.one, v.other) as unequal
    from (values (format('%s.%I', one_sql, a.attname), format('%s.%I', other_sql, a.attname)))
      v(one, other)
  ) d
  where a.attrelid = tab and a.attnum > 0 and not a.attisdropped and a.attgenerated = '';
$$;

comment on function crossfade_private.column_differences is
  'For each column that is not computed, SQL that says of two rows of a table whether they differ there, are unequal, and whether that breaks a law: numbers may come back with other places, intervals not.';

create or replace function crossfade_private.differing_columns_sql(
  tab regclass, one_sql text, other_sql text, prefix text default '', laws boolean default false
)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format('array_remove(array[%s]::text[], null)', string_agg(
    format('case when %s then %L end',
      case when laws then d.breaks else d.differs end, prefix || d.name),
    ', ' order by d.name))
  from crossfade_private.column_differences(tab, one_sql, other_sql) d;
$$;

comment on function crossfade_private.differing_columns_sql is
  'SQL expression for the names of the columns in which two rows of a table differ, or break a law, with a prefix. Columns that PostgreSQL computes are left out: converters need not fill them.';

create or replace function crossfade_private.rows_differ_sql(source regclass, target regclass)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- What equality hides (1.1 and 1.10) counts when neither row makes the other: then it was written
  -- in one table only, and repair settles it.
  select format('case when (%s) then (%s) or (%s) else (%s) end', b.differs, a.differs, b.unequal,
    a.unequal)
  from (
    select string_agg(d.differs, ' or ') as differs, string_agg(d.unequal, ' or ') as unequal
    from crossfade_private.column_differences(source, '(cf_a.cf_row)', 'cf_d') d
  ) a
  cross join (
    select string_agg(d.differs, ' or ') as differs, string_agg(d.unequal, ' or ') as unequal
    from crossfade_private.column_differences(target, '(cf_b.cf_row)', 'cf_c') d
  ) b;
$$;

comment on function crossfade_private.rows_differ_sql is
  'SQL that says whether the rows of both tables, cf_a.cf_row and cf_b.cf_row, are not what the converters make of them, cf_d and cf_c.';

create or replace function crossfade_private.writable_columns(tab regclass, without text[])
returns text[]
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(array_agg(a.attname::text order by a.attnum), '{}')
  from pg_catalog.pg_attribute a
  where a.attrelid = tab and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
    and a.attname <> all (without);
$$;

comment on function crossfade_private.writable_columns is
  'Columns that are not generated, but for some, in their order.';

create or replace function crossfade_private.always_identity(tab regclass)
returns text[]
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(array_agg(a.attname::text), '{}')
  from pg_catalog.pg_attribute a where a.attrelid = tab and a.attidentity = 'a';
$$;

comment on function crossfade_private.always_identity is
  'Columns that are GENERATED ALWAYS AS IDENTITY.';

-- pairs/keys.sql ----------------------------------------------------------------------------------

-- A key as JSON, and JSON as a key.

create or replace function crossfade_private.key_from_json(
  names text[], source regclass, source_key text[], expression text
)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- As the widest type of the family and without a length: the key may be one that only the other
  -- table can hold, and must then find nothing instead of failing or, cut, finding another row.
  select string_agg(format('(%s ->> %L)::%s', expression, u.name, case
      when b.id in ('int2'::regtype, 'int4'::regtype) then 'bigint'
      when b.id = 'varchar'::regtype then 'text'
      else format_type(b.id, -1) end), ', ' order by u.n)
  from unnest(names, source_key) with ordinality u(name, source_name, n)
  join pg_catalog.pg_attribute a on a.attrelid = source and a.attname = u.source_name
  cross join lateral crossfade_private.base_type(a.atttypid) b(id);
$$;

comment on function crossfade_private.key_from_json is
  'Typed key columns read from a JSON key, as a list of SQL expressions in key order.';

create or replace function crossfade_private.key_part(value timestamptz)
returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
  select to_jsonb(value);
$$;

comment on function crossfade_private.key_part(timestamptz) is
  'A part of a key as JSON that is the same whatever the session''s time zone: keys are compared as JSON.';

create or replace function crossfade_private.key_part(value bytea)
returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
set bytea_output = 'hex'
as $$
  select to_jsonb(value);
$$;

comment on function crossfade_private.key_part(bytea) is
  'A part of a key as JSON that is the same whatever the session''s bytea_output.';

create or replace function crossfade_private.key_to_json(
  names text[], tab regclass, columns text[], alias text
)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format('jsonb_build_object(%s)', string_agg(format('%L, %s', u.name, format(
    case when crossfade_private.base_type(a.atttypid)
      in ('timestamptz'::regtype, 'bytea'::regtype)
      then 'crossfade_private.key_part(%s.%I)' else '%s.%I' end, alias, u.c)), ', ' order by u.n))
  from unnest(names, columns) with ordinality u(name, c, n)
  join pg_catalog.pg_attribute a on a.attrelid = tab and a.attname = u.c;
$$;

comment on function crossfade_private.key_to_json is
  'SQL expression that makes the JSON key, with the V1 names, of a row.';

-- pairs/pieces.sql --------------------------------------------------------------------------------

-- The pieces of SQL that are made of a pair's tables.

create or replace function crossfade_private.make_pieces(pair crossfade.pairs, side integer)
returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_source regclass := case side when 1 then pair.v1_table else pair.v2_table end::regclass;
  v_target regclass := case side when 1 then pair.v2_table else pair.v1_table end::regclass;
  v_source_key text[] := case side when 1 then pair.key_columns else pair.v2_key_columns end;
  v_target_key text[] := case side when 1 then pair.v2_key_columns else pair.key_columns end;
  v_target_columns text[];
  -- PostgreSQL lets nobody update these.
  v_target_identity text[] := crossfade_private.always_identity(v_target);
  v_name text;
  v_pieces jsonb;
begin
  v_target_columns := crossfade_private.writable_columns(v_target, '{}');
  v_pieces := jsonb_build_object(
    'pair', pair.name, 'pair_literal', quote_literal(pair.name), 'side', side, 'other', 3 - side,
    'source', case side when 1 then pair.v1_table else pair.v2_table end,
    'target', case side when 1 then pair.v2_table else pair.v1_table end,
    -- Conversions are written {convert} ROW {with} COUNTERPART {converted}: a call, which
    -- install_mirror replaces by the text of the converter where that can be done.
    'convert', case side when 1 then pair.to_v2 else pair.to_v1 end || '(',
    'with', ',', 'converted', ')',
    'convert_back', case side when 1 then pair.to_v1 else pair.to_v2 end || '(',
    'with_back', ',', 'converted_back', ')',
    -- Of rows cf_a.cf_row and cf_b.cf_row, and what the converters make of them, cf_d and cf_c.
    'rows_differ', crossfade_private.rows_differ_sql(v_source, v_target),
    'differing_names', crossfade_private.differing_columns_sql(v_source, '(cf_a.cf_row)', 'cf_d')
      || ' || ' || crossfade_private.differing_columns_sql(
        v_target, '(cf_b.cf_row)', 'cf_c', format('v%s.', 3 - side)),
    'target_columns',
    (select string_agg(quote_ident(c), ', ') from unnest(v_target_columns) c),
    'target_key', (select string_agg(quote_ident(c), ', ') from unnest(v_target_key) c),
    'set_list', coalesce(
      (select string_agg(format('%1$I = cf_c.%1$I', c), ', ')
        from unnest(v_target_columns) c
       where c <> all (v_target_key) and c <> all (v_target_identity)),
      -- A target that is nothing but its key: setting a key column to itself keeps the
      -- statement valid.
      format('%1$I = cf_c.%1$I', v_target_key[1])));
  v_pieces := v_pieces || jsonb_build_object(
    'skey_desc', (select string_agg(format('cf_s.%I desc', c), ', ') from unnest(v_source_key) c),
    -- Keys that come in as JSON: parameters $1 and $2, and column key of a table cf_z.
    'skey_1', crossfade_private.key_from_json(pair.key_columns, v_source, v_source_key, '$1'),
    'skey_2', crossfade_private.key_from_json(pair.key_columns, v_source, v_source_key, '$2'),
    'skey_z',
    crossfade_private.key_from_json(pair.key_columns, v_source, v_source_key, 'cf_z.key'));
  -- The key of a row by the alias that it has in templates. Aliases there begin with cf_: a column
  -- of the owner's with the same name would win over a row.
  foreach v_name in array array['n', 't', 's', 'a', 'b', 'd', 'sample'] loop
    v_pieces := v_pieces || jsonb_build_object('skey_' || v_name,
      (select string_agg(format('cf_%s.%I', v_name, c), ', ') from unnest(v_source_key) c));
  end loop;
  foreach v_name in array array['t', 'o', 'b', 'c'] loop
    v_pieces := v_pieces || jsonb_build_object('tkey_' || v_name,
      (select string_agg(format('cf_%s.%I', v_name, c), ', ') from unnest(v_target_key) c));
  end loop;
  -- Keys travel as JSON with the V1 names, whichever side they were read from.
  return v_pieces || jsonb_build_object(
    'skey_json_s',
    crossfade_private.key_to_json(pair.key_columns, v_source, v_source_key, 'cf_s'),
    'skey_json_a',
    crossfade_private.key_to_json(pair.key_columns, v_source, v_source_key, 'cf_a'),
    'tkey_json_t',
    crossfade_private.key_to_json(pair.key_columns, v_target, v_target_key, 'cf_t'),
    'tkey_json_b',
    crossfade_private.key_to_json(pair.key_columns, v_target, v_target_key, 'cf_b'),
    'tcolumns_c', (select string_agg(format('cf_c.%I', c), ', ') from unnest(v_target_columns) c));
end $$;

comment on function crossfade_private.make_pieces is
  'SQL fragments of a pair with side (1 or 2) as the source and the other one as the target.';

-- pairs/search_paths.sql --------------------------------------------------------------------------

-- Where the generated functions find what is named without a schema.

create or replace function crossfade_private.owner_search_path(tab regclass)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- Triggers of the owner's fire inside our statements, and many name their tables without a
  -- schema. A schema in which others may create things would let them put in something of that
  -- name.
  select concat_ws(', ', 'pg_catalog', string_agg(quote_ident(n.nspname), ', ' order by
    n.nspname <> 'public', n.nspname <> 'extensions', n.nspname), 'pg_temp')
  from pg_catalog.pg_namespace n
  where (n.nspname in ('public', 'extensions')
      or n.oid = (select c.relnamespace from pg_catalog.pg_class c where c.oid = tab))
    and not exists (
      select from pg_catalog.aclexplode(
        coalesce(n.nspacl, pg_catalog.acldefault('n', n.nspowner))) a
      left join pg_catalog.pg_roles r on r.oid = a.grantee
      where a.privilege_type = 'CREATE' and a.grantee <> n.nspowner
        and not coalesce(r.rolsuper
          or r.rolname in (current_user, 'pg_database_owner', 'dashboard_user'), false));
$$;

comment on function crossfade_private.owner_search_path is
  'The search_path of mirror functions that write a table: pg_catalog, then public, extensions and the table''s schema, each as far as nobody but its owner and ours may create in it, pg_temp last.';

-- pairs/printed_sql.sql ---------------------------------------------------------------------------

-- SQL as PostgreSQL prints it, taken apart. It prints its words in capitals, types and other
-- people's names in small letters or quotes, every name that could mean something else with what it
-- belongs to, and no comments.

create or replace function crossfade_private.printed_tokens(printed text)
returns table (n bigint, space text, token text)
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select u.n, m[1], m[2]
  from regexp_matches(printed,
    '(\s*)(''(?:[^'']|'''')*''|"(?:[^"]|"")*"|[A-Za-z_][A-Za-z0-9_$]*|\$[0-9]+|::|=>|\S)', 'g')
    with ordinality u(m, n);
$$;

comment on function crossfade_private.printed_tokens is
  'Words, constants, quoted names and signs of printed SQL, with the space before each.';

create or replace function crossfade_private.is_name(token text)
returns boolean
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select token ~ '^[a-z_][a-z0-9_$]*$' or left(token, 1) = '"';
$$;

comment on function crossfade_private.is_name is
  'Whether a token of printed SQL is a name and no word of PostgreSQL''s.';

create or replace function crossfade_private.marked_tokens(
  printed text, names text[], function_name text
)
returns table (n bigint, space text, token text, parameter integer)
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  with near as (
    select t.*, coalesce(lag(t.token) over w, '') as before,
      coalesce(lag(t.token, 2) over w, '') as before_2,
      coalesce(lag(t.token, 3) over w, '') as before_3, coalesce(lead(t.token) over w, '') as after,
      coalesce(lead(t.token, 2) over w, '') as after_2,
      case when t.token ~ '^\$[12]$' then substr(t.token, 2)::integer
        else array_position(array(
          select quote_ident(u.name) from unnest(names) with ordinality u(name, place)
          order by u.place), t.token) end as place
    from crossfade_private.printed_tokens(printed) t
    window w as (order by t.n)
  ),
  judged as (
    select near.*, before = '.' and before_2 = quote_ident(function_name)
        and before_3 not in ('.', '::') as is_qualified
    from near
  )
  select judged.n, judged.space, judged.token,
    case when is_qualified or token ~ '^\$' or not (
        -- A column, type, function, table, label or keyword argument of the same name.
        before in ('.', '::', ')', 'AS', 'FROM', 'JOIN', 'WITH', 'RECURSIVE', 'ORDINALITY',
          'LATERAL', 'ONLY', 'COLLATE', 'WINDOW', 'OVER', 'OF', 'NAME', 'COLUMNS')
        or after in ('.', '(', '=>') or after = 'AS' and after_2 in ('(', 'MATERIALIZED', 'NOT')
        or before = '(' and before_2 in ('EXTRACT', 'USING') or before ~ '^[0-9]$'
        or crossfade_private.is_name(before) or crossfade_private.is_name(after))
      then place end
  from judged;
$$;

comment on function crossfade_private.marked_tokens is
  'printed_tokens, and which of them are the parameters (1, 2) of a function; inside a query they are printed with the name of the function before them.';

create or replace function crossfade_private.with_parameters(
  printed text, names text[], function_name text
)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  with marked as (
    select m.*, lead(m.parameter) over w as parameter_1, lead(m.parameter, 2) over w as parameter_2,
      lead(m.token) over w as after, m.token = quote_ident(function_name) as is_function
    from crossfade_private.marked_tokens(printed, names, function_name) m
    window w as (order by m.n)
  )
  select string_agg(case
    when parameter is not null then space || chr(2 + parameter)
    when is_function and after = '.' and parameter_2 is not null then space
    when token = '.' and parameter_1 is not null then ''
    -- What a backslash means hangs on standard_conforming_strings, but for this form.
    when token like '''%\\%' then space || 'E' || replace(token, '\', '\\')
    else space || token end, '' order by n)
  from marked;
$$;

comment on function crossfade_private.with_parameters is
  'Printed SQL in which chr(3) and chr(4) stand for the parameters of the function it is the body of.';

create or replace function crossfade_private.select_items(printed text)
returns text[]
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_token record;
  v_depth integer := 0;
  v_items text[] := '{}'::text[];
  v_item text := '';
  v_before text := '';
begin
  for v_token in
    select t.space, t.token, lead(t.token) over (order by t.n) as after
    from crossfade_private.printed_tokens(substr(printed, length('SELECT ') + 1)) t order by t.n
  loop
    v_depth := v_depth + case when v_token.token in ('(', '[') then 1
      when v_token.token in (')', ']') then -1 else 0 end;
    if v_depth = 0 and (v_token.token = ';' or v_token.token = any ('{FROM,WHERE,GROUP,HAVING,UNION,
        INTERSECT,EXCEPT,ORDER,LIMIT,OFFSET,FETCH,WINDOW,FOR,DISTINCT,OVER,FILTER,WITHIN}')) then
      return null;
    elsif v_depth = 0 and v_token.token = ',' then
      v_items := v_items || v_item;
      v_item := '';
    elsif not (v_depth = 0 and (v_token.token = 'AS' or v_before = 'AS')) then
      v_item := v_item || v_token.space || v_token.token;
    end if;
    v_before := v_token.token;
  end loop;
  return v_items || v_item;
end $$;

comment on function crossfade_private.select_items is
  'The expressions of a SELECT that has nothing but its list, without their labels; null when it has a FROM or any other clause.';

create or replace function crossfade_private.unquoted(name text)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select case when left(name, 1) = '"' then replace(substr(name, 2, length(name) - 2), '""', '"')
    else name end;
$$;

comment on function crossfade_private.unquoted is 'The name that a printed name stands for.';

create or replace function crossfade_private.columns_read(expression text, parameter text)
returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when regexp_replace(expression, '\(' || parameter || '\)\.', '', 'g') ~ parameter then null
    else (
      select coalesce(jsonb_agg(distinct crossfade_private.unquoted(m[1])), '[]')
      from regexp_matches(expression,
        '\(' || parameter || '\)\.([a-z_][a-z0-9_]*|"(?:[^"]|"")*")', 'g') m)
    end;
$$;

comment on function crossfade_private.columns_read is
  'Names of the columns of a parameter (chr(3) or chr(4)) that an expression reads; null when it reads the row as a whole.';

create or replace function crossfade_private.column_copied(expression text, parameter text)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select crossfade_private.unquoted(substring(expression from
    '^\s*\(' || parameter || '\)\.([a-z_][a-z0-9_]*|"(?:[^"]|"")*")\s*$'));
$$;

comment on function crossfade_private.column_copied is
  'The column of a parameter that an expression is, if it is nothing else.';

-- pairs/converter_text.sql ------------------------------------------------------------------------

-- The text of a converter, so that it can stand in the engine's own statements: converting many
-- rows is one plan then, and converting one costs no function call. A function with a SET clause is
-- never inlined by PostgreSQL, and the advisors ask for that clause (lint 0011); our statements run
-- with the same settings, so its text means the same there.

create or replace function crossfade_private.printed_body(converter oid)
returns text
language plpgsql volatile -- makes a function and removes it again
set search_path = pg_catalog, pg_temp
-- Constants are printed and parsed by these; a session may have others.
set timezone = 'UTC'
set datestyle = 'ISO, MDY'
set intervalstyle = 'postgres'
set extra_float_digits = 1
set bytea_output = 'hex'
set quote_all_identifiers = off
set standard_conforming_strings = on
set check_function_bodies = on
as $$
declare
  v_proc pg_catalog.pg_proc;
  v_body text := pg_catalog.pg_get_function_sqlbody(converter);
begin
  select p.* into v_proc from pg_catalog.pg_proc p where p.oid = converter;
  -- As strict as a call: a column may have changed its type since the converter was made.
  perform pg_catalog.fmgr_sql_validator(converter);
  if v_body is null then
    -- A body that is a string: PostgreSQL parses it, and prints it with every name qualified.
    -- SAFETY: whoever wrote it gains nothing; the mirror runs converters with the same rights.
    execute format(
      E'create function pg_temp.cf_printed(%s %s, %s %s) returns setof %s language sql stable
       begin atomic %s\n; end', coalesce(quote_ident(nullif(v_proc.proargnames[1], '')), ''),
      v_proc.proargtypes[0]::regtype, coalesce(quote_ident(nullif(v_proc.proargnames[2], '')), ''),
      v_proc.proargtypes[1]::regtype, v_proc.prorettype::regtype,
      regexp_replace(v_proc.prosrc, '[\s;]+$', ''));
    v_body := pg_catalog.pg_get_function_sqlbody(to_regprocedure(format(
      'pg_temp.cf_printed(%s, %s)', v_proc.proargtypes[0]::regtype,
      v_proc.proargtypes[1]::regtype)));
    execute format('drop function pg_temp.cf_printed(%s, %s)', v_proc.proargtypes[0]::regtype,
      v_proc.proargtypes[1]::regtype);
    -- Inside queries, parameters are printed with the name of the function.
    v_body := crossfade_private.with_parameters(v_body, v_proc.proargnames[1:2], 'cf_printed');
  else
    v_body := crossfade_private.with_parameters(v_body, v_proc.proargnames[1:2], v_proc.proname);
  end if;
  return substring(v_body from '^BEGIN ATOMIC\s+(.*);\s*END$');
end $$;

comment on function crossfade_private.printed_body is
  'The body of a converter in SQL as PostgreSQL prints it, chr(3) and chr(4) standing for its parameters; null when it is not begin atomic. Raises what PostgreSQL has against it.';

create or replace function crossfade_private.call_reason(converter oid)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when l.lanname <> 'sql' then format('it is written in %s; write it in SQL', l.lanname)
    when p.prosecdef then 'it is SECURITY DEFINER; leave that out, the mirror runs as the owner'
    when not p.proretset then 'it does not return SETOF'
    when coalesce(p.proconfig, '{}') not in ('{}', array['search_path=""'],
        array['search_path=pg_catalog, pg_temp'])
      then format('it has settings of its own (%s); keep search_path = pg_catalog, pg_temp alone',
        array_to_string(p.proconfig, '; '))
    when p.proconfig is null and p.prosqlbody is null
      then 'it has no search_path; set search_path = pg_catalog, pg_temp'
    end
  from pg_catalog.pg_proc p join pg_catalog.pg_language l on l.oid = p.prolang
  where p.oid = converter;
$$;

comment on function crossfade_private.call_reason is
  'Why the text of a converter cannot stand elsewhere, and what to change; null when nothing is known against it.';

create or replace function crossfade_private.text_reason(body text, function_name text)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  with t as (select * from crossfade_private.printed_tokens(body))
  select case
    when body is null or not exists (select from t where n = 1 and token in ('SELECT', 'WITH',
      'VALUES', '(')) then 'it is no query; write one SELECT'
    when exists (select from t where token = ';') then 'it has several statements; write one SELECT'
    -- A call would refuse these, as the function is not volatile.
    when exists (
      select from (select token, lead(token) over (order by n) as after from t) u
      where token = 'FOR' and after in ('UPDATE', 'NO', 'SHARE', 'KEY')) then 'it locks rows'
    -- Such names are ours: none of its own may hide one.
    when exists (select from t where token ~ '^"?cf_')
      then 'a name in it begins with cf_; choose another'
    when exists (
      select from t where token ~ '^[''"]' and token ~ ('[' || chr(3) || chr(4) || ']'))
      then 'it holds the characters 3 or 4; write them as chr(3)'
    when exists (
      select from (select token, lag(token) over (order by n) as before,
        lead(token) over (order by n) as after from t) u
      where token = quote_ident(function_name) and before is distinct from '.' and after <> '(')
      then 'a table in it is named as the function is; choose another alias'
    end;
$$;

comment on function crossfade_private.text_reason is
  'What in the body of a converter, as printed_body gives it, keeps it from standing elsewhere, and what to change.';

create or replace function crossfade_private.converter_text(converter text)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_proc oid := to_regproc(converter);
  v_why text := crossfade_private.call_reason(v_proc);
  v_body text;
begin
  if v_why is null then
    v_body := crossfade_private.printed_body(v_proc);
    v_why := crossfade_private.text_reason(v_body, (
      select p.proname from pg_catalog.pg_proc p
      where p.oid = v_proc and p.prosqlbody is not null));
  end if;
  if v_why is not null then
    return jsonb_build_object('why', v_why);
  end if;
  return jsonb_build_object('text', v_body,
    'reads', crossfade_private.columns_read(v_body, chr(3)), 'items', (
    select jsonb_agg(jsonb_build_object('text', btrim(i, E' \n\t'),
      'reads', crossfade_private.columns_read(i, chr(3)),
      'reads_old', crossfade_private.columns_read(i, chr(4)),
      'copies', crossfade_private.column_copied(i, chr(3)),
      'keeps', crossfade_private.column_copied(i, chr(4))) order by n)
    from unnest(case when v_body like 'SELECT %' then crossfade_private.select_items(v_body) end)
      with ordinality u(i, n)));
exception when others then
  return jsonb_build_object('why', format('PostgreSQL refuses its text: %s', sqlerrm));
end $$;

comment on function crossfade_private.converter_text is
  'A converter''s query taken apart, chr(3) standing for the row and chr(4) for its counterpart: {"text", "reads": columns of the row, null for all, "items": null or, of a bare select list, [{"text", "reads", "reads_old": the same of the counterpart, "copies", "keeps": the column of the row or counterpart that it is}]}, or {"why": what keeps its text from standing elsewhere}.';

-- pairs/standing.sql ------------------------------------------------------------------------------

-- What of a converter can stand in another statement: its expressions or its query, with what it
-- gives assigned to the columns as a table would do it.

create or replace function crossfade_private.fill_item(
  item text, row_sql text, counterpart_sql text
)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select replace(replace(item, chr(3), row_sql), chr(4), counterpart_sql);
$$;

comment on function crossfade_private.fill_item is
  'An expression of a converter with the SQL of the row and of its counterpart in it.';

create or replace function crossfade_private.query_types(query text, paths text[])
returns table (type_id oid, typmod integer)
language plpgsql volatile -- makes a view and removes it again
set search_path = pg_catalog, pg_temp
as $$
declare
  v_path text;
  v_text text;
  v_first text;
begin
  foreach v_path in array 'pg_catalog, pg_temp'::text || paths loop
    perform set_config('search_path', v_path, true);
    execute 'create temporary view cf_typed as ' || query;
    perform set_config('search_path', 'pg_catalog, pg_temp', true);
    v_text := pg_catalog.pg_get_viewdef('pg_temp.cf_typed'::regclass);
    if v_first is null then
      v_first := v_text;
      return query
        select a.atttypid, a.atttypmod from pg_catalog.pg_attribute a
        where a.attrelid = 'pg_temp.cf_typed'::regclass and a.attnum > 0 order by a.attnum;
    elsif v_text <> v_first then
      raise exception 'a name in it means something else where %', v_path;
    end if;
    execute 'drop view pg_temp.cf_typed';
  end loop;
end $$;

comment on function crossfade_private.query_types is
  'Types and lengths of the columns of a query. Raises when PostgreSQL refuses it, or when a name in it means something else under another search_path, where a function or operator may fit its arguments better.';

create or replace function crossfade_private.assigned_items(
  items text[], columns jsonb, query text, paths text[]
)
returns text[]
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_items text[] := '{}'::text[];
  v_column record;
begin
  for v_column in
    select u.c ->> 'name' as name, crossfade_private.assigned_sql(items[u.n], (u.c ->> 'id')::oid,
        (u.c ->> 'typmod')::integer, t.type_id, t.typmod) as item
    from jsonb_array_elements(columns) with ordinality u(c, n)
    join rows from (crossfade_private.query_types(query, paths)) with ordinality
      t(type_id, typmod, n) using (n)
    order by u.n
  loop
    if v_column.item is null then
      raise exception
        'column "%" has another type in the converter, and only a call can assign that',
        v_column.name;
    end if;
    v_items := v_items || v_column.item;
  end loop;
  return v_items;
end $$;

comment on function crossfade_private.assigned_items is
  'Expressions as they are assigned to the columns of a table; query selects them. Raises where that takes a call.';

create or replace function crossfade_private.standing_items(
  parsed jsonb, columns jsonb, both_tables text, paths text[]
)
returns jsonb
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'items', jsonb_agg(i || jsonb_build_object('text', a.items[n]) order by n))
  from (
    select crossfade_private.assigned_items(array_agg(i ->> 'text' order by n), columns,
      -- Where an aggregate or a set would be refused: in an UPDATE, each column gets its
      -- expression.
      format('select %s from %s where row(%s) is null', string_agg(format('%s as cf_%s', f.item, n),
        ', ' order by n), both_tables, string_agg(f.item, ', ' order by n)), paths)
    from jsonb_array_elements(parsed -> 'items') with ordinality u(i, n)
    cross join lateral (
      select format('(%s)', crossfade_private.fill_item(i ->> 'text', 'cf_s', 'cf_t'))) f(item)
  ) a(items)
  cross join jsonb_array_elements(parsed -> 'items') with ordinality u(i, n);
$$;

comment on function crossfade_private.standing_items is
  'The items of converter_text, assigned to the columns. Raises when they are no plain expressions.';

create or replace function crossfade_private.standing_text(
  parsed jsonb, columns jsonb, both_tables text, paths text[]
)
returns jsonb
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  with query(text, names) as (
    select crossfade_private.fill_item(parsed ->> 'text', 'cf_given.cf_row',
        'cf_given.cf_counterpart'), (
      select string_agg(quote_ident(c ->> 'name'), ', ' order by n)
      from jsonb_array_elements(columns) with ordinality u(c, n))
  )
  select jsonb_build_object('text', q.text, 'columns', jsonb_agg(
    c || jsonb_build_object('made', a.items[n]) order by n))
  from query q
  cross join lateral (
    select crossfade_private.assigned_items(array(
        select format('cf_made.%I', c ->> 'name')
        from jsonb_array_elements(columns) with ordinality u(c, n) order by n), columns,
      format('select cf_made.* from %s cross join lateral
          (select cf_s as cf_row, cf_t as cf_counterpart) cf_given
        cross join lateral (%s) cf_made(%s)', both_tables, q.text, q.names), paths)
  ) a(items)
  cross join jsonb_array_elements(columns) with ordinality u(c, n)
  group by q.text;
$$;

comment on function crossfade_private.standing_text is
  'The query of converter_text, and how the columns that it gives as cf_made are assigned.';

-- pairs/protected_text.sql ------------------------------------------------------------------------

-- SQL in which nothing but SQL is left: constants and quoted names are put aside.

create or replace function crossfade_private.protect_text(text_in text)
returns table (safe text, tokens text[])
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  -- String constants and quoted names: nothing in them is SQL.
  v_token constant text := '''(?:[^'']|'''')*''|"(?:[^"]|"")*"';
  v_between text[] := regexp_split_to_array(text_in, v_token);
  v_found text;
  v_place integer;
  v_number integer := 1;
begin
  tokens := '{}';
  safe := v_between[1];
  for v_found in select m[1] from regexp_matches(text_in, '(' || v_token || ')', 'g') m loop
    -- A backslash means something only where standard_conforming_strings is off; this way it means
    -- the same everywhere.
    if v_found like '''%\\%' then
      v_found := 'E' || replace(v_found, '\', '\\');
    end if;
    v_place := array_position(tokens, v_found);
    if v_place is null then
      tokens := tokens || v_found;
      v_place := cardinality(tokens);
    end if;
    v_number := v_number + 1;
    safe := safe || chr(1) || v_place || chr(2) || v_between[v_number];
  end loop;
  return next;
end $$;

comment on function crossfade_private.protect_text is
  'SQL in which constants and quoted names are replaced by numbers between chr(1) and chr(2), and what they stand for.';

create or replace function crossfade_private.restore_text(safe text, tokens text[])
returns text
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_between text[] := regexp_split_to_array(safe, chr(1) || '[0-9]+' || chr(2));
  v_text text := v_between[1];
  v_number integer := 1;
  v_place text;
begin
  for v_place in
    select m[1] from regexp_matches(safe, chr(1) || '([0-9]+)' || chr(2), 'g') m
  loop
    v_number := v_number + 1;
    v_text := v_text || tokens[v_place::integer] || v_between[v_number];
  end loop;
  return v_text;
end $$;

comment on function crossfade_private.restore_text is
  'The text of protect_text again.';

create or replace function crossfade_private.split_select_list(safe text)
returns text[]
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_part text;
  v_depth integer := 0;
  v_item text := '';
  v_items text[] := '{}'::text[];
begin
  for v_part in select m[1] from regexp_matches(safe, '([(),]|\[|\]|[^(),\[\]]+)', 'g') m loop
    v_depth := v_depth + case when v_part in ('(', '[') then 1 when v_part in (')', ']') then -1
      else 0 end;
    -- PostgreSQL prints its words in capitals and other people's in small letters or quotes.
    if v_depth = 0 and v_part ~ ('\m(FROM|WHERE|GROUP|HAVING|UNION|INTERSECT|EXCEPT|ORDER|LIMIT'
        || '|OFFSET|FETCH|WINDOW|FOR|DISTINCT|OVER|FILTER|WITHIN)\M') then
      return null;
    end if;
    if v_depth = 0 and v_part = ',' then
      v_items := v_items || v_item;
      v_item := '';
    else
      v_item := v_item || v_part;
    end if;
  end loop;
  return (
    select array_agg(regexp_replace(btrim(i, E' \n\t'),
      '\s+AS\s+([a-z_][a-z0-9_$]*|' || chr(1) || '[0-9]+' || chr(2) || ')$', '') order by n)
    from unnest(v_items || v_item) with ordinality u(i, n));
end $$;

comment on function crossfade_private.split_select_list is
  'The expressions of a SELECT that has nothing but its list; null when it has a FROM or any other clause.';

-- pairs/conversion.sql ----------------------------------------------------------------------------

-- A conversion as SQL that stands in a statement: the converter's own expressions where it is a
-- bare select list ("items"), its whole query where it is any other ("text"), else a call.

create or replace function crossfade_private.convert_sql(
  conversion jsonb, row_sql text, counterpart_sql text
)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when conversion -> 'items' <> 'null' then (
      select format('(select %s)', string_agg(format('%s as %I',
        crossfade_private.fill_item(i ->> 'text', row_sql, counterpart_sql), c ->> 'name'), ', '
        order by n))
      from jsonb_array_elements(conversion -> 'items') with ordinality u(i, n)
      join jsonb_array_elements(conversion -> 'columns') with ordinality w(c, n) using (n))
    when conversion ->> 'text' is not null then (
      select format('(select %s from (select %s as cf_row, %s as cf_counterpart) cf_given
          cross join lateral (%s) cf_made(%s))',
        string_agg(format('%s as %I', c ->> 'made', c ->> 'name'), ', ' order by n),
        row_sql, counterpart_sql, conversion ->> 'text',
        string_agg(quote_ident(c ->> 'name'), ', ' order by n))
      from jsonb_array_elements(conversion -> 'columns') with ordinality w(c, n))
    else format('%s(%s, %s)', conversion ->> 'call', row_sql, counterpart_sql)
    end;
$$;

comment on function crossfade_private.convert_sql is
  'An item of FROM, to be written after LATERAL and before an alias, that converts a row: its columns are those of the target, assigned as an INSERT would, as the base types of these.';

create or replace function crossfade_private.conversion(
  converter text, source regclass, target regclass
)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_parsed constant jsonb := crossfade_private.converter_text(converter);
  v_paths constant text[] := array[
    crossfade_private.owner_search_path(source), crossfade_private.owner_search_path(target)];
  v_both constant text := format('%s cf_s cross join %s cf_t', source, target);
  v_columns jsonb;
  v_called jsonb;
  v_conversion jsonb;
  v_form text;
  v_why text := v_parsed ->> 'why';
begin
  select jsonb_agg(jsonb_build_object('name', a.attname, 'id', a.atttypid, 'typmod', a.atttypmod,
    'type', crossfade_private.base_type_name(a.atttypid)) order by a.attnum)
  into v_columns
  from pg_catalog.pg_attribute a
  where a.attrelid = target and a.attnum > 0 and not a.attisdropped;
  v_called := jsonb_build_object('call', converter, 'columns', v_columns, 'reads', null,
    'items', null, 'text', null);
  foreach v_form in array case when v_why is not null then '{}'::text[]
    when jsonb_array_length(nullif(v_parsed -> 'items', 'null')) = jsonb_array_length(v_columns)
      then '{items,text}' else '{text}' end
  loop
    begin
      v_conversion := v_called || jsonb_build_object('reads', v_parsed -> 'reads')
        || case v_form
          when 'items' then crossfade_private.standing_items(v_parsed, v_columns, v_both, v_paths)
          else crossfade_private.standing_text(v_parsed, v_columns, v_both, v_paths) end;
      -- What PostgreSQL would not plan in another statement is called.
      execute format('explain select from %s cross join lateral %s cf_c cross join lateral %s cf_d',
        v_both, crossfade_private.convert_sql(v_conversion, 'cf_s', 'cf_t'),
        crossfade_private.convert_sql(v_conversion, 'cf_s', format('null::%s', target)));
      return v_conversion;
    exception when others then
      v_why := format('PostgreSQL refuses its text in another statement: %s', sqlerrm);
    end;
  end loop;
  return v_called || jsonb_build_object('why', v_why);
end $$;

comment on function crossfade_private.conversion is
  'How a converter stands in statements: {"call", "columns": [{"name", "type"}], and "items", or "text" and the columns'' "made", or "why" it has to be called, "reads"}. Locks both tables ACCESS SHARE.';

create or replace function crossfade_private.depends_on_settings(
  conversion jsonb, source regclass, target regclass
)
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
set jit = off -- it looks dear and is not: to compile it would take most of a registration's time
as $$
  -- Anything else than a bare list is taken to depend on them.
  select coalesce(bool_or(case
    -- Copied as it is, and compared without its text.
    when (i.item ->> 'copies' is not null or i.item ->> 'keeps' is not null)
      and crossfade_private.base_type(i.id) in (
        'bool'::regtype, 'int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'oid'::regtype,
        'uuid'::regtype, 'date'::regtype, 'time'::regtype, 'timestamp'::regtype,
        'timestamptz'::regtype, 'bytea'::regtype, 'text'::regtype, 'varchar'::regtype,
        'bpchar'::regtype, 'json'::regtype, 'jsonb'::regtype, 'numeric'::regtype) then false
    else i.safe ~
        '::"?(date|time|interval|real|double|float|money|bytea|xml|ts|reg)|OPERATOR\(|\.[a-z0-9_]+\('
      or exists (
        select from regexp_matches(i.safe, '\m([a-z_][a-z0-9_]*)\(', 'g') m
        where not exists (
          select from pg_catalog.pg_proc p
          where p.proname = m[1] and p.pronamespace = 'pg_catalog'::regnamespace
            and (p.provolatile = 'i' or p.proname in ('concat', 'concat_ws', 'format', 'to_jsonb',
              'to_json', 'jsonb_build_array', 'jsonb_build_object', 'json_build_array',
              'json_build_object', 'array_to_string'))))
      or exists (
        select from pg_catalog.pg_attribute a
        cross join lateral crossfade_private.type_parts(a.atttypid) p(id)
        join pg_catalog.pg_type y on y.oid = p.id
        where (a.attrelid = source
            and (i.item -> 'reads' = 'null' or i.item -> 'reads' ? a.attname::text)
          or a.attrelid = target
            and (i.item -> 'reads_old' = 'null' or i.item -> 'reads_old' ? a.attname::text))
          and a.attnum > 0 and not a.attisdropped
          and y.typtype = 'b' and y.typcategory <> 'A' and y.oid not in (
            'bool'::regtype, 'int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'numeric'::regtype,
            'text'::regtype, 'varchar'::regtype, 'bpchar'::regtype, 'uuid'::regtype,
            'json'::regtype, 'jsonb'::regtype))
    end), true)
  from (
    select u.item, p.safe, (w.c ->> 'id')::oid as id
    from jsonb_array_elements(nullif(conversion -> 'items', 'null')) with ordinality u(item, n)
    join jsonb_array_elements(conversion -> 'columns') with ordinality w(c, n) using (n)
    cross join lateral crossfade_private.protect_text(u.item ->> 'text') p
  ) i;
$$;

comment on function crossfade_private.depends_on_settings is
  'Whether what a converter makes may depend on the session''s time zone, date style and the like: false only for a bare list of columns as they are, and of expressions over types and functions that know no settings.';

create or replace function crossfade_private.pair_conversions(pair crossfade.pairs)
returns jsonb
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_array(
    crossfade_private.conversion((pair).to_v2, t.v1, t.v2),
    crossfade_private.conversion((pair).to_v1, t.v2, t.v1))
  from (select ((pair).v1_table)::regclass, ((pair).v2_table)::regclass) t(v1, v2);
$$;

comment on function crossfade_private.pair_conversions is
  'What conversion says of both converters, by the side that they read. Takes most of the time of a registration.';

-- pairs/inlining.sql ------------------------------------------------------------------------------

-- Converters in the statements of runs, which are put together from pieces.

create or replace function crossfade_private.conversion_pieces(conversion jsonb, suffix text)
returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select case when conversion ? 'why' then '{}' else jsonb_build_object(
      'convert' || suffix, '(select cf_made.* from (select ',
      'with' || suffix, ' as cf_row, ',
      'converted' || suffix, format(
        ' as cf_counterpart) cf_given cross join lateral %s cf_made)',
        crossfade_private.convert_sql(
          conversion, 'cf_given.cf_row', 'cf_given.cf_counterpart'))) end
    || jsonb_build_object('called' || suffix, conversion -> 'why');
$$;

comment on function crossfade_private.conversion_pieces is
  'The pieces convert, with and converted (plus suffix) that put the text of a converter into a statement; only called (plus suffix), which says why, when it has to be called.';

create or replace function crossfade_private.counterpart_reads(conversion jsonb)
returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when conversion -> 'items' <> 'null' then (
      select case when bool_or(i -> 'reads_old' = 'null') then null
        else coalesce(jsonb_agg(distinct c) filter (where c is not null), '[]') end
      from jsonb_array_elements(conversion -> 'items') i
      left join lateral jsonb_array_elements(nullif(i -> 'reads_old', 'null')) c on true)
    when strpos(conversion ->> 'text', chr(4)) = 0
      and strpos(conversion ->> 'text', 'cf_counterpart') = 0 then '[]'
    end;
$$;

comment on function crossfade_private.counterpart_reads is
  'The columns that a converter reads of the stored counterpart; null when it may be any.';

create or replace function crossfade_private.inlined_pieces(conversions jsonb, side integer)
returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select crossfade_private.conversion_pieces(conversions -> (side - 1), '')
    || crossfade_private.conversion_pieces(conversions -> (2 - side), '_back');
$$;

comment on function crossfade_private.inlined_pieces is
  'Pieces that replace calls of the converters of a pair by their text, with side as the source. A converter that is replaced later is taken up by registering the pair again.';

-- pairs/called_functions.sql ----------------------------------------------------------------------

-- Which functions a function calls.

create or replace function crossfade_private.called_functions(names text[])
returns setof oid
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with recursive called(id) as (
    select to_regproc(f)::oid from unnest(names) f where to_regproc(f) is not null
    union
    select q.id
    from called c
    join pg_catalog.pg_proc d on d.oid = c.id
    cross join lateral (
      -- Postgres keeps no record of what a string calls, so its schema-qualified calls are read.
      select p.oid as id
      from pg_catalog.regexp_matches(
        coalesce(pg_catalog.pg_get_function_sqlbody(d.oid), d.prosrc),
        '([a-z_][a-z0-9_]*)\.([a-z_][a-z0-9_]*)\s*\(', 'g') m
      join pg_catalog.pg_namespace n on n.nspname = m[1] and n.nspname not like 'pg\_%'
      join pg_catalog.pg_proc p on p.pronamespace = n.oid and p.proname = m[2] and p.prokind = 'f'
      union all
      select coalesce(o.oprcode::oid, e.refobjid)
      from pg_catalog.pg_depend e
      left join pg_catalog.pg_operator o
        on e.refclassid = 'pg_operator'::regclass and o.oid = e.refobjid
      where e.classid = 'pg_proc'::regclass and e.objid = d.oid
        and e.refclassid in ('pg_proc'::regclass, 'pg_operator'::regclass)
    ) q
  )
  select c.id from called c;
$$;

comment on function crossfade_private.called_functions is
  'Some functions and all that they call: what a standard SQL body calls, and the qualified calls in a string. Calls without a schema or by dynamic SQL are not seen.';

-- pairs/fingerprints.sql --------------------------------------------------------------------------

-- What must not change unseen: the columns of a table, the text of a converter.

create or replace function crossfade_private.table_fingerprint(v1 regclass, v2 regclass)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off -- format_type writes by it
as $$
  select md5(string_agg(
    format('%s.%s %s %s %s', a.attrelid = v1, a.attname, format_type(a.atttypid, a.atttypmod),
      a.attnotnull, a.attgenerated),
    ';' order by a.attrelid = v1, a.attnum))
  from pg_catalog.pg_attribute a
  where a.attrelid in (v1, v2) and a.attnum > 0 and not a.attisdropped;
$$;

comment on function crossfade_private.table_fingerprint is
  'Hash of names, types and nullability of the columns of both tables.';

create or replace function crossfade_private.settled_text(definition text)
returns text
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  -- What PostgreSQL prints of `x in ('a', 'b')` with a varchar x: an array whose cast it gives to
  -- the elements when it reads its own text, as in a restore. All else that it prints stays as it
  -- is.
  v_cast constant text := '\(ARRAY\[((?:[^][]|\[[^][]*\])*)\]\)::([^][(),]+?)\[\]';
  v_text record;
  v_found text[];
  v_items text[];
begin
  if definition !~ v_cast then
    return definition;
  end if;
  select * into v_text from crossfade_private.protect_text(definition);
  loop
    v_found := regexp_match(v_text.safe, v_cast);
    v_items := crossfade_private.split_select_list(v_found[1]);
    exit when v_found is null or v_items is null;
    v_text.safe := regexp_replace(v_text.safe, v_cast, (
      select 'ARRAY[' || string_agg(format('(%s)::%s', i, v_found[2]), ', ' order by n) || ']'
      from unnest(v_items) with ordinality u(i, n)));
  end loop;
  return crossfade_private.restore_text(v_text.safe, v_text.tokens);
end $$;

comment on function crossfade_private.settled_text is
  'A definition as PostgreSQL prints it once it has read what it printed: a dump restores it so.';

create or replace function crossfade_private.converter_hash(to_v2 text, to_v1 text)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
-- Bodies are printed by these.
set timezone = 'UTC'
set datestyle = 'ISO, MDY'
set intervalstyle = 'postgres'
set extra_float_digits = 1
set bytea_output = 'hex'
set quote_all_identifiers = off
set standard_conforming_strings = on
as $$
  select md5(string_agg(
    coalesce(crossfade_private.settled_text(pg_catalog.pg_get_functiondef(c.id)), '-'), ';'
    order by c.id::pg_catalog.regprocedure::text collate "C"))
  from crossfade_private.called_functions(array[to_v2, to_v1]) c(id)
  join pg_catalog.pg_proc p on p.oid = c.id and p.prokind <> 'a';
$$;

comment on function crossfade_private.converter_hash is
  'Hash of the definitions of both converters and of all functions they call by their qualified names. Calls without a schema or by dynamic SQL are not seen.';

-- pairs/lookup.sql --------------------------------------------------------------------------------

-- Finding a pair. A change of one is a change of control rows.

create or replace function crossfade_private.get_pair(pair text)
returns crossfade.pairs
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pair crossfade.pairs;
begin
  select p.* into v_pair from crossfade.pairs p where p.name = get_pair.pair;
  if not found then
    perform crossfade_private.fail(
      404, 'CF001', format('Unknown pair "%s"', get_pair.pair),
      jsonb_build_object('pair', get_pair.pair,
        'known', (select coalesce(jsonb_agg(p.name order by p.name), '[]') from crossfade.pairs p)),
      'crossfade pair list shows the pairs; register one with the SQL in sql/pairs.');
  end if;
  return v_pair;
end $$;

comment on function crossfade_private.get_pair is
  'The pair''s row; CF001 with the known names when there is none.';

create or replace function crossfade_private.refuse_retired(pair crossfade.pairs, what text)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if (pair).stage = 'retired' then
    perform crossfade_private.fail(409, 'CF005',
      format('Cannot %s "%s": it is in stage retired, where %s is a view over version 2', what,
        (pair).name, (pair).v1_view),
      jsonb_build_object('pair', (pair).name, 'stage', (pair).stage),
      format('crossfade stage set %s complete --reason "..." brings the table back.',
        (pair).name));
  end if;
end $$;

comment on function crossfade_private.refuse_retired is
  'CF005 for what needs two tables under their own names.';

create or replace trigger crossfade_on_pair_change
after insert or delete or update of stage, gate_flag, to_v2, to_v1, latched_at, step
  on crossfade.pairs
for each row execute function crossfade_private.on_control_change();

create or replace trigger crossfade_on_cohort_change
after insert or update or delete on crossfade.cohorts
for each row execute function crossfade_private.on_control_change();

-- pairs/locking.sql -------------------------------------------------------------------------------

-- The locks of whoever changes more than one control row, in the one order.

create or replace function crossfade_private.lock_control(fence boolean, pair_names text[])
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Order matters: fence, pairs by name, control row. See before_control_change.
  if fence then
    perform crossfade_private.close_fence();
  end if;
  perform 1 from crossfade.pairs p where p.name = any (pair_names) order by p.name
  for no key update;
  perform 1 from crossfade.control c for update;
end $$;

comment on function crossfade_private.lock_control is
  'Take the locks of a change of several control objects in the order that never deadlocks, until the transaction ends.';

-- pairs/backends.sql ------------------------------------------------------------------------------

-- Which backend serves a request.

create or replace function crossfade_private.backend_rules(pair_name text, context jsonb)
returns table (
  place integer, rule text, matched boolean, backend integer, reason text, details jsonb
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_user text := nullif(context ->> 'user_id', '');
  v_agent text := nullif(context ->> 'agent_id', '');
  v_pair crossfade.pairs := crossfade_private.get_pair(pair_name);
  v_cohort crossfade.cohorts;
  v_gate jsonb;
  v_bucket integer;
  v_threshold integer;
begin
  select c.* into v_cohort from crossfade.cohorts c where c.pair = pair_name;
  v_bucket := crossfade.bucket(v_cohort.cohort_key, crossfade_private.unit(context));
  v_threshold := coalesce(v_cohort.percentage, 0) * 1000;
  if v_pair.gate_flag is not null then
    v_gate := crossfade.evaluate_flag(v_pair.gate_flag, context);
  end if;
  return query values
    -- From stage complete on V1 is an archive, so no switch can serve it.
    (1, 'kill_switch', v_pair.stage not in ('complete', 'retired') and exists (
      select from crossfade.kill_switches k
      where k.engaged and (k.overrides_all or k.fences and coalesce(k.pair = pair_name, true))
    ), 1, 'DISABLED', '{}'::jsonb),
    (2, 'stage', v_pair.stage not in ('live', 'rampdown'),
      case when v_pair.stage in ('complete', 'retired') then 2 else 1 end, 'STATIC', '{}'),
    (3, 'gate_flag', v_gate -> 'value' is not distinct from 'false', 1, v_gate ->> 'reason', '{}'),
    (4, 'stage', v_pair.stage = 'rampdown', 2, 'STATIC', '{}'),
    (5, 'deny', coalesce(v_user = any (v_cohort.denied_user_ids), false)
      or coalesce(v_agent = any (v_cohort.denied_agent_ids), false), 1, 'TARGETING_MATCH', '{}'),
    (6, 'allow', coalesce(v_user = any (v_cohort.enabled_user_ids), false)
      or coalesce(v_agent = any (v_cohort.enabled_agent_ids), false), 2, 'TARGETING_MATCH', '{}'),
    (7, 'percentage', v_threshold = 100000 or v_bucket is not null,
      case when coalesce(v_bucket < v_threshold, true) then 2 else 1 end, 'SPLIT',
      jsonb_build_object('bucket', v_bucket, 'threshold', v_threshold)),
    (8, 'default', true, 1, 'DEFAULT', '{}');
end $$;

comment on function crossfade_private.backend_rules is
  'Like flag_rules, for the backend version that serves a request. CF001 unknown pair.';

create or replace function crossfade.choose_backend(pair text, context jsonb default '{}')
returns jsonb
language plpgsql stable
-- Definer: API roles hold no right on crossfade_private.
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_answer jsonb;
begin
  if jsonb_typeof(coalesce(context, '{}')) <> 'object' then
    perform crossfade_private.fail(
      400, 'CF012', format('Cannot choose a backend for "%s": context must be a JSON object', pair),
      jsonb_build_object('context', context));
  end if;
  select jsonb_strip_nulls(r.details) || jsonb_build_object(
    'backend', r.backend, 'reason', r.reason, 'rule', r.rule,
    'flags_version', crossfade.flags_version())
  into v_answer
  from crossfade_private.backend_rules(choose_backend.pair, coalesce(context, '{}')) r
  where r.matched order by r.place limit 1;
  return v_answer;
end $$;

comment on function crossfade.choose_backend is
  'Which backend version serves the unit of context: {"backend": 1 or 2, "reason", "rule", "flags_version"}, and bucket and threshold when the percentage decided. CF001 unknown pair, CF012 context is not an object.';

create or replace function crossfade_private.compares_rights()
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select from crossfade_private.rights_checks c
    where c.transaction_id = pg_current_xact_id_if_assigned());
$$;

comment on function crossfade_private.compares_rights is
  'Whether check_rls runs in this transaction. Written by functions of the secret key only, so that no user can say so.';

create or replace function crossfade_private.my_backend(pair text)
returns integer
language plpgsql stable
-- Definer: users hold no right on the tables of crossfade. Not in the exposed schema, so that
-- crossfade.my_backend is the only way in.
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (select from crossfade.pairs p where p.name = my_backend.pair) then
    -- Not get_pair: it names all pairs, which is no business of a user's.
    perform crossfade_private.fail(404, 'CF001', format('Unknown pair "%s"', pair),
      jsonb_build_object('pair', pair), '');
  end if;
  -- sub alone is taken from the token: every other claim may hold what the user has chosen.
  -- check_rls asks who may see what at all.
  return (
    select case when r.backend = 1 and crossfade_private.compares_rights() then 2
      else r.backend end
    from crossfade_private.backend_rules(my_backend.pair, jsonb_strip_nulls(
      jsonb_build_object('user_id', crossfade_private.actor_id()))) r
    where r.matched order by r.place limit 1);
end $$;

comment on function crossfade_private.my_backend is
  'What crossfade.my_backend answers, for whoever asks.';

create or replace function crossfade.my_backend(pair text)
returns integer
language sql stable
set search_path = pg_catalog, pg_temp
begin atomic
select crossfade_private.my_backend(pair);
end;

comment on function crossfade.my_backend is
  'Which backend version serves the signed-in user who asks: 1 or 2, as choose_backend with the user id of the token. Beside operate the one function that every signed-in user may call: for clients without an edge function and for policies. CF001 unknown pair.';

-- pairs/triggers.sql ------------------------------------------------------------------------------

-- Which release made a pair's functions, and which triggers of the owner's they must live with.

create or replace function crossfade_private.generator()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select '0.2.0'::text;
$$;

comment on function crossfade_private.generator is
  'The release whose texts make the mirror functions; crossfade.pairs.generator says which one made a pair''s.';

create or replace function crossfade_private.has_triggers(tab regclass, kind text)
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- tgtype: 1 row, 2 before, 4 insert, 16 update.
  select exists (
    select from pg_catalog.pg_trigger g
    join pg_catalog.pg_proc f on f.oid = g.tgfoid
    where g.tgrelid = tab and not g.tgisinternal
      and f.pronamespace <> 'crossfade_private'::regnamespace
      and case kind
        when 'before row' then g.tgtype & 3 = 3 and g.tgtype & 20 <> 0
        when 'before insert row' then g.tgtype & 7 = 7
        when 'update of' then g.tgtype & 16 <> 0 and g.tgattr <> ''
        end);
$$;

comment on function crossfade_private.has_triggers is
  'Whether a table has triggers of its owner''s of a kind: before row, before insert row, update of (columns).';

create or replace function crossfade_private.triggers_met(tab regclass)
returns text[]
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select array(
    select k from unnest(array['before row', 'before insert row', 'update of']) k
    where crossfade_private.has_triggers(tab, k));
$$;

comment on function crossfade_private.triggers_met is
  'Kinds of the owner''s triggers on a table that the mirror of a pair is made for.';

-- pairs/key_types.sql -----------------------------------------------------------------------------

-- Which types a key may have. A key is noted as JSON by one session, read back by another one, and
-- compared by = in both tables: none of that may depend on who asks.

create or replace function crossfade_private.key_type_reason(type_id oid)
returns table (part oid, reason text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select q.id, q.reason
  from (
    select y.oid as id, case
      -- As a part of something else, a date is printed by DateStyle and a bytea by bytea_output.
      when y.oid in ('float4'::regtype, 'float8'::regtype, 'interval'::regtype, 'money'::regtype)
        or y.typname like 'reg%' and y.typnamespace = 'pg_catalog'::regnamespace
        or y.oid in ('date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype,
          'bytea'::regtype) and y.oid <> b.id
        then 'whose text depends on the session''s settings'
      when y.typtype = 'c' or y.typcategory = 'A' or y.oid in ('json'::regtype, 'jsonb'::regtype)
        then 'whose values do not come back from JSON as they were'
      when y.typtype = 'b' and y.typnamespace <> 'pg_catalog'::regnamespace
        then 'a type of an extension, whose = is found by the search_path of the session only'
      -- A FULL JOIN of the rows of one key needs it.
      when y.oid = b.id and exists (
        select from pg_catalog.pg_operator o
        where o.oprnamespace = 'pg_catalog'::regnamespace and o.oprname = '='
          and o.oprleft = y.oid and o.oprright = y.oid and not o.oprcanhash)
        then 'whose values cannot be hashed, as verification does'
      end as reason
    from crossfade_private.type_parts(type_id) p(id)
    join pg_catalog.pg_type y on y.oid = p.id and y.typtype <> 'd'
    cross join crossfade_private.base_type(type_id) b(id)
  ) q
  where q.reason is not null
  order by q.reason like 'whose text%' desc, q.id
  limit 1;
$$;

comment on function crossfade_private.key_type_reason is
  'Why no key may be of a type, judged by what it is made of, and the part that is to blame; no row when it may.';

create or replace function crossfade_private.key_type_problems(
  tab regclass, label text, key_columns text[]
)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format(
    '%s %s: key column "%s" is %s, %s; take another unique column as the key (an integer, text, uuid, numeric, date or timestamp), or give the table one',
    label, tab, a.attname, concat(format_type(a.atttypid, a.atttypmod),
      ' (' || nullif(concat_ws(' of ', case when b.id <> a.atttypid then format_type(b.id, -1) end,
        case when r.part <> b.id then format_type(r.part, -1) end), '') || ')'), r.reason)
  from pg_catalog.pg_attribute a
  cross join lateral crossfade_private.key_type_reason(a.atttypid) r
  cross join lateral crossfade_private.base_type(a.atttypid) b(id)
  where a.attrelid = tab and a.attname = any (key_columns) and a.attnum > 0;
$$;

comment on function crossfade_private.key_type_problems is
  'Key columns of types that no key may have, one sentence each.';

create or replace function crossfade_private.base_type_modifier(type_id oid, modifier integer)
returns integer
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with recursive layer(id, modifier) as (
    select type_id, modifier
    union all
    select y.typbasetype, case when l.modifier = -1 then y.typtypmod else l.modifier end
    from layer l join pg_catalog.pg_type y on y.oid = l.id
    where y.typtype = 'd'
  )
  select max(l.modifier) from layer l;
$$;

comment on function crossfade_private.base_type_modifier is
  'Length or precision of a column, also where a domain holds it; -1 without.';

create or replace function crossfade_private.key_family(type_id oid, modifier integer)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when b.id in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) then 'an integer'
    -- A text that is too long is refused, not cut: its length does not matter.
    when b.id in ('text'::regtype, 'varchar'::regtype) then 'text'
    when b.id = 'numeric'::regtype then
      case when b.modifier = -1 then 'numeric of any scale'
        else format('numeric of scale %s', (b.modifier - 4) & 2047) end
    -- These would be padded, rounded or cut by the other table.
    else format_type(b.id, b.modifier) end
  from rows from (crossfade_private.base_type(type_id),
    crossfade_private.base_type_modifier(type_id, modifier)) b(id, modifier);
$$;

comment on function crossfade_private.key_family is
  'What the types of a key must have in common in both tables, so that = is the same and nothing is rounded or cut.';

create or replace function crossfade_private.key_pair_problems(pair crossfade.pairs)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format('key column "%s" is %s in V1 but "%s" is %s in V2; %s', a1.attname,
    format_type(a1.atttypid, a1.atttypmod), a2.attname, format_type(a2.atttypid, a2.atttypmod),
    case when b.two = 'uuid'::regtype
      then format(
        'give V1 a uuid column beside it and take that as the key; run: crossfade key carry %s',
        (pair).v1_table)
      else
        'only smallint, integer and bigint, or text and varchar, may stand for each other: give both the same type, precision and scale'
    end)
  from unnest((pair).key_columns, (pair).v2_key_columns) u(k1, k2)
  join pg_catalog.pg_attribute a1
    on a1.attrelid = ((pair).v1_table)::regclass and a1.attname = u.k1
  join pg_catalog.pg_attribute a2
    on a2.attrelid = ((pair).v2_table)::regclass and a2.attname = u.k2
  cross join lateral rows from (crossfade_private.base_type(a1.atttypid),
    crossfade_private.base_type(a2.atttypid)) b(one, two)
  where crossfade_private.key_family(a1.atttypid, a1.atttypmod)
    <> crossfade_private.key_family(a2.atttypid, a2.atttypmod)
  union all
  select format(
    'key column "%s" has another collation in V1 than "%s" in V2; run: alter table %s alter column %I type %s collate %s',
    k1, k2, (pair).v2_table, k2, format_type(a2.atttypid, a2.atttypmod),
    format('%I.%I', n.nspname, c.collname))
  from unnest((pair).key_columns, (pair).v2_key_columns) u(k1, k2)
  join pg_catalog.pg_attribute a1
    on a1.attrelid = ((pair).v1_table)::regclass and a1.attname = u.k1
  join pg_catalog.pg_attribute a2
    on a2.attrelid = ((pair).v2_table)::regclass and a2.attname = u.k2
  join pg_catalog.pg_collation c on c.oid = a1.attcollation
  join pg_catalog.pg_namespace n on n.oid = c.collnamespace
  where a1.attcollation <> a2.attcollation and a2.attcollation <> 0
  union all
  select format(
    'the keys have %s and %s columns: both tables need the same key; the columns may have other names',
    cardinality((pair).key_columns), cardinality((pair).v2_key_columns))
  where cardinality((pair).key_columns) <> cardinality((pair).v2_key_columns);
$$;

comment on function crossfade_private.key_pair_problems is
  'What keeps the keys of two tables from naming the same rows, one sentence each.';

-- pairs/owners.sql --------------------------------------------------------------------------------

-- Whose code runs with our rights: the mirror writes the tables as the owner of its functions, and
-- so run the converters, the triggers of the other table, and what both of them call.

create or replace function crossfade_private.is_trusted_owner(role oid)
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- Every caller is owned by the engine's owner and asks with its rights.
  select r.rolsuper or r.rolname = current_user from pg_catalog.pg_roles r where r.oid = role;
$$;

comment on function crossfade_private.is_trusted_owner is
  'Whether what a role could put into its functions may run with the engine''s rights: the engine''s owner''s own, and a superuser''s. Membership is not enough: the engine''s owner is a member of the API roles.';

create or replace function crossfade_private.function_owner_problem(id oid, what text)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format(
    '%s belongs to %s, who could replace it by code that runs as %s; run: alter function %s owner to %I',
    what, p.proowner::regrole, current_user, p.oid::regprocedure, current_user)
  from pg_catalog.pg_proc p
  where p.oid = id and not crossfade_private.is_trusted_owner(p.proowner);
$$;

comment on function crossfade_private.function_owner_problem is
  'A sentence about a function of somebody else''s that runs with the engine''s rights; null for one of the engine''s owner.';

create or replace function crossfade_private.converter_owner_problems(pair crossfade.pairs)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select q.problem
  from (
    select crossfade_private.function_owner_problem(c.id, case
      when c.id = to_regproc((pair).to_v2) then format('function to_v2 %s', (pair).to_v2)
      when c.id = to_regproc((pair).to_v1) then format('function to_v1 %s', (pair).to_v1)
      else format('function %s, which the converters call,', c.id::regprocedure) end) as problem
    from crossfade_private.called_functions(array[(pair).to_v2, (pair).to_v1]) c(id)
  ) q
  where q.problem is not null
  order by q.problem;
$$;

comment on function crossfade_private.converter_owner_problems is
  'Converters, and functions that they call, of owners who could make the engine run their code.';

create or replace function crossfade_private.table_owner_problems(tab regclass, label text)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- Whoever owns a table can give it a trigger, which our writes fire.
  select format(
    '%s %s belongs to %s, of which %s is not a member: its triggers cannot be created; run: alter table %2$s owner to %4$I',
    label, tab, c.relowner::regrole, current_user)
  from pg_catalog.pg_class c
  where c.oid = tab and not pg_has_role(c.relowner, 'usage')
  union all
  select format(
    '%s %s belongs to the API role %s, which could give it code that runs as %s; run: alter table %2$s owner to %4$I',
    label, tab, r.rolname, current_user)
  from pg_catalog.pg_class c join pg_catalog.pg_roles r on r.oid = c.relowner
  where c.oid = tab and pg_has_role(c.relowner, 'usage')
    and r.rolname in ('anon', 'authenticated', 'authenticator')
  union all
  -- A SECURITY DEFINER function runs as its owner, whoever fires it.
  select distinct crossfade_private.function_owner_problem(f.oid,
    format('%s %s: function %s, which its triggers, defaults, constraints or indexes call,', label,
      tab, f.oid::regprocedure))
  from pg_catalog.pg_depend d
  join pg_catalog.pg_proc f on f.oid = d.refobjid
  where d.refclassid = 'pg_proc'::regclass and not f.prosecdef
    and f.pronamespace <> 'crossfade_private'::regnamespace
    and not crossfade_private.is_trusted_owner(f.proowner)
    and (d.classid, d.objid) in (
      select 'pg_trigger'::regclass, g.oid from pg_catalog.pg_trigger g where g.tgrelid = tab
      union all
      select 'pg_attrdef'::regclass, e.oid from pg_catalog.pg_attrdef e where e.adrelid = tab
      union all
      select 'pg_constraint'::regclass, o.oid from pg_catalog.pg_constraint o
      where o.conrelid = tab
      union all
      select 'pg_class'::regclass, i.indexrelid from pg_catalog.pg_index i where i.indrelid = tab);
$$;

comment on function crossfade_private.table_owner_problems is
  'What gives somebody else than the engine''s owner a way to run code when the mirror writes a table.';

-- pairs/deferred.sql ------------------------------------------------------------------------------

-- Constraints that are looked at when the transaction commits: by then the mirror has said that all
-- is well, and the client's write fails without a word of whose fault it is.

create or replace function crossfade_private.constraint_kind(kind "char")
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select case kind when 'f' then 'foreign key' when 'u' then 'unique constraint'
    when 'p' then 'primary key' when 'x' then 'exclusion constraint' when 't' then 'trigger'
    else 'constraint' end;
$$;

comment on function crossfade_private.constraint_kind is
  'A kind of constraint in words.';

create or replace function crossfade_private.deferred_problems(tab regclass, label text)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format(
    '%s %s: %s "%s" is initially deferred: a mirrored row could fail at COMMIT; run: %s',
    label, tab, crossfade_private.constraint_kind(o.contype), o.conname, case o.contype
      when 'f' then format('alter table %s alter constraint %I deferrable initially immediate',
        o.conrelid::regclass, o.conname)
      else format('alter table %s drop constraint %I, add constraint %2$I %s', o.conrelid::regclass,
        o.conname, regexp_replace(pg_get_constraintdef(o.oid), case o.contype
          when 'p' then ' DEFERRABLE INITIALLY DEFERRED$' else ' INITIALLY DEFERRED$' end, '')) end)
  from pg_catalog.pg_constraint o
  where o.conrelid = tab and o.condeferred and o.contype <> 't'
  union all
  -- A delete that is mirrored is judged by the children of both tables.
  select format(
    '%s %s: foreign key "%s" of %s is initially deferred: a mirrored delete could fail at COMMIT; run: alter table %4$s alter constraint %3$I deferrable initially immediate',
    label, tab, o.conname, o.conrelid::regclass)
  from pg_catalog.pg_constraint o
  where o.confrelid = tab and o.conrelid <> tab and o.contype = 'f' and o.condeferred
    and 'a' in (o.confdeltype, o.confupdtype)
  union all
  select format(
    '%s %s has the deferrable trigger "%s": it could write after our triggers have run; run: drop trigger %3$I on %2$s; %4$s',
    label, tab, g.tgname, regexp_replace(regexp_replace(pg_get_triggerdef(g.oid),
      '^CREATE CONSTRAINT TRIGGER', 'CREATE TRIGGER'),
      ' DEFERRABLE INITIALLY (DEFERRED|IMMEDIATE) ', ' '))
  from pg_catalog.pg_trigger g
  where g.tgrelid = tab and not g.tgisinternal and g.tgdeferrable;
$$;

comment on function crossfade_private.deferred_problems is
  'Constraints of any type that are looked at at COMMIT, and triggers that can run there, one sentence each.';

-- pairs/sequences.sql -----------------------------------------------------------------------------

-- Sequences that hand out keys. Two tables with a sequence each hand out the same keys; two tables
-- with one sequence depend on it, and one of them owns it.

create or replace function crossfade_private.default_sequence(tab regclass, column_name text)
returns regclass
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_column pg_catalog.pg_attribute;
  v_name text[];
begin
  select a.* into v_column from pg_catalog.pg_attribute a
  where a.attrelid = tab and a.attname = column_name and a.attnum > 0;
  if v_column.attidentity <> '' then
    return (
      select d.objid::regclass from pg_catalog.pg_depend d
      where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass
        and d.refobjid = tab and d.refobjsubid = v_column.attnum and d.deptype = 'i');
  end if;
  -- As a constant PostgreSQL knows it; a text it looks up when the default is asked for.
  select regexp_match(pg_get_expr(e.adbin, e.adrelid),
    '^nextval\(\(?(?:pg_get_serial_sequence\(''((?:[^'']|'''')*)''::text, ''((?:[^'']|'''')*)''::text\)|''((?:[^'']|'''')*)''::(?:text|regclass))\)?(?:::regclass)?\)')
  into v_name
  from pg_catalog.pg_attrdef e where e.adrelid = tab and e.adnum = v_column.attnum;
  if v_name[3] is not null then
    return to_regclass(replace(v_name[3], '''''', ''''));
  end if;
  return pg_get_serial_sequence(replace(v_name[1], '''''', ''''), replace(v_name[2], '''''', ''''));
exception when others then
  return null; -- a default that could not be asked for either
end $$;

comment on function crossfade_private.default_sequence is
  'The sequence from which a column takes its default: of an identity, of nextval(), of nextval(pg_get_serial_sequence()); null without one.';

create or replace function crossfade_private.sequence_owner(sequence regclass)
returns table (tab regclass, column_name text, is_identity boolean)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select d.refobjid::regclass, a.attname::text, d.deptype = 'i'
  from pg_catalog.pg_depend d
  join pg_catalog.pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
  where d.classid = 'pg_class'::regclass and d.objid = sequence and d.deptype in ('a', 'i')
    and d.refclassid = 'pg_class'::regclass;
$$;

comment on function crossfade_private.sequence_owner is
  'The column with which a sequence would be dropped; no row when there is none.';

create or replace function crossfade_private.key_sequences(pair crossfade.pairs)
returns table (column_1 text, sequence_1 regclass, column_2 text, sequence_2 regclass)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select u.k1, crossfade_private.default_sequence(((pair).v1_table)::regclass, u.k1),
    u.k2, crossfade_private.default_sequence(((pair).v2_table)::regclass, u.k2)
  from unnest((pair).key_columns, (pair).v2_key_columns) u(k1, k2);
$$;

comment on function crossfade_private.key_sequences is
  'Where the key columns of both tables take their defaults from.';

create or replace function crossfade_private.sequence_warnings(pair crossfade.pairs)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format(
    '"%s" of %s takes its values from %s and "%s" of %s from %s: both hand out the same keys, which the other table then refuses; run: %s',
    s.column_2, (pair).v2_table, s.sequence_2, s.column_1, (pair).v1_table,
    coalesce(s.sequence_1::text, 'its clients'),
    case when s.sequence_1 is null
      then format('alter table %s alter column %I drop %s', (pair).v2_table, s.column_2, i.kind)
      else format('%salter table %s alter column %I set default nextval(%L)%s',
        case i.kind when 'identity' then format('alter table %s alter column %I drop identity; ',
          (pair).v2_table, s.column_2) end, (pair).v2_table, s.column_2, s.sequence_1,
        -- Nobody needs a right on the sequence of an identity column; for a default they do.
        (select '; ' || format('grant usage on sequence %s to %s', s.sequence_1,
          string_agg(distinct quote_ident(r.rolname), ', ' order by quote_ident(r.rolname)))
        from pg_catalog.pg_class c
        cross join lateral pg_catalog.aclexplode(c.relacl) g
        join pg_catalog.pg_roles r on r.oid = g.grantee
        where c.oid = ((pair).v2_table)::regclass and g.privilege_type = 'INSERT'
          and not has_sequence_privilege(r.oid, s.sequence_1, 'usage')
        having count(*) > 0)) end)
  from crossfade_private.key_sequences(pair) s
  cross join lateral (
    select case when a.attidentity <> '' then 'identity' else 'default' end as kind
    from pg_catalog.pg_attribute a
    where a.attrelid = ((pair).v2_table)::regclass and a.attname = s.column_2
  ) i
  where s.sequence_2 is not null and s.sequence_2 is distinct from s.sequence_1
  union all
  select format(
    'sequence %s, from which "%s" of %s takes its values, would be dropped with "%s" of %s; stage complete %s',
    s.sequence_2, s.column_2, (pair).v2_table, o.column_name, o.tab,
    case when o.is_identity
      then 'gives version 2 a sequence of its own (ACCESS EXCLUSIVE on it for milliseconds)'
      else 'makes it version 2''s' end)
  from crossfade_private.key_sequences(pair) s
  cross join lateral crossfade_private.sequence_owner(s.sequence_2) o
  where o.tab = ((pair).v1_table)::regclass;
$$;

comment on function crossfade_private.sequence_warnings is
  'Keys that both tables would hand out, and sequences that would die with V1.';

-- pairs/publications.sql --------------------------------------------------------------------------

-- Who else hears of rows: publications, from which Realtime and replicas read.

create or replace function crossfade_private.publications_of(tab regclass)
returns table (name text, is_named boolean, publishes_changes boolean)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select p.pubname::text, exists (
      select from pg_catalog.pg_publication_rel r where r.prpubid = p.oid and r.prrelid = tab),
    p.pubupdate or p.pubdelete
  from pg_catalog.pg_publication p
  where p.puballtables
    or exists (
      select from pg_catalog.pg_publication_rel r where r.prpubid = p.oid and r.prrelid = tab)
    or exists (
      select from pg_catalog.pg_publication_namespace n
      join pg_catalog.pg_class c on c.oid = tab and c.relnamespace = n.pnnspid
      where n.pnpubid = p.oid)
  order by 1;
$$;

comment on function crossfade_private.publications_of is
  'The publications that a table is in: by name, with its schema or with all tables.';

create or replace function crossfade_private.has_replica_identity(tab regclass)
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select case c.relreplident
    when 'f' then true
    when 'd' then exists (
      select from pg_catalog.pg_index i where i.indrelid = tab and i.indisprimary)
    when 'i' then exists (
      select from pg_catalog.pg_index i where i.indrelid = tab and i.indisreplident)
    else false end
  from pg_catalog.pg_class c where c.oid = tab;
$$;

comment on function crossfade_private.has_replica_identity is
  'Whether rows of a table can be updated and deleted while it is published.';

create or replace function crossfade_private.replica_identity_command(
  tab regclass, key_columns text[]
)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format('alter table %s replica identity %s', tab, coalesce((
    select format('using index %I', c.relname)
    from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid
    where i.indrelid = tab and i.indisunique and i.indimmediate and i.indisvalid
      and i.indpred is null and i.indexprs is null and (
        select bool_and(a.attnotnull and a.attname = any (key_columns))
        from pg_catalog.pg_attribute a
        where a.attrelid = tab and a.attnum = any (i.indkey::smallint[]))
    order by c.relname limit 1), 'full'));
$$;

comment on function crossfade_private.replica_identity_command is
  'The command that gives a table the identity by which published changes name its rows: its key.';

create or replace function crossfade_private.publication_problems(pair crossfade.pairs)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format(
    'V%s %s is in publication "%s" without a replica identity: PostgreSQL refuses every update and delete of it; run: %s',
    t.side, t.tab, p.name, crossfade_private.replica_identity_command(t.tab, t.key_columns))
  from (values (1, to_regclass((pair).v1_table), (pair).key_columns),
    (2, to_regclass((pair).v2_table), (pair).v2_key_columns)) t(side, tab, key_columns)
  cross join lateral crossfade_private.publications_of(t.tab) p
  where p.publishes_changes and not crossfade_private.has_replica_identity(t.tab);
$$;

comment on function crossfade_private.publication_problems is
  'Publications that make PostgreSQL refuse what the mirror writes.';

create or replace function crossfade_private.publication_warnings(pair crossfade.pairs)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format(
    'publication "%s" has %s and not %s: whoever listens to it does not hear of version 2 in its own format; run: %salter publication %I add table %s',
    p.name, (pair).v1_table, (pair).v2_table,
    case when p.publishes_changes
      and not crossfade_private.has_replica_identity(((pair).v2_table)::regclass)
      then crossfade_private.replica_identity_command(((pair).v2_table)::regclass,
        (pair).v2_key_columns) || '; ' end,
    p.name, (pair).v2_table)
  from crossfade_private.publications_of(((pair).v1_table)::regclass) p
  where p.name not in (
    select q.name from crossfade_private.publications_of(((pair).v2_table)::regclass) q);
$$;

comment on function crossfade_private.publication_warnings is
  'Publications that have V1 and not V2.';

-- pairs/table_problems.sql ------------------------------------------------------------------------

-- What keeps a table from being mirrored, by name and with the reason.

create or replace function crossfade_private.table_problems(
  tab regclass, label text, key_columns text[]
)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with t as (select c.* from pg_catalog.pg_class c where c.oid = tab)
  select format('%s %s is %s; only ordinary tables can be mirrored', label, tab,
    case t.relkind when 'p' then 'partitioned' when 'v' then 'a view' when 'm'
      then 'a materialized view'
      when 'f' then 'a foreign table' else 'not a table' end)
  from t where t.relkind <> 'r'
  union all
  select format('%s %s is %s: a crash would empty it, and no trigger sees that', label, tab,
    case t.relpersistence when 'u' then 'unlogged' else 'temporary' end)
  from t where t.relpersistence <> 'p'
  union all
  select format('%s %s is a partition or inherits: its rows would be written without our triggers',
    label, tab)
  from t where t.relispartition or exists (
    select from pg_catalog.pg_inherits i where tab in (i.inhrelid, i.inhparent))
  union all
  select format('%s %s has no primary key and no key was given', label, tab)
  where coalesce(cardinality(key_columns), 0) = 0
  union all
  select format('%s %s has no key column "%s"', label, tab, k)
  from unnest(key_columns) k
  where not exists (
    select from pg_catalog.pg_attribute a
    where a.attrelid = tab and a.attname = k and a.attnum > 0 and not a.attisdropped)
  union all
  select format('%s %s: key column "%s" is generated from other columns', label, tab, a.attname)
  from pg_catalog.pg_attribute a
  where a.attrelid = tab and a.attname = any (key_columns) and a.attgenerated <> ''
  union all
  select format(
    '%s %s: key column "%s" has the nondeterministic collation "%s", by which different keys are equal',
    label, tab, a.attname, c.collname)
  from pg_catalog.pg_attribute a
  join pg_catalog.pg_collation c on c.oid = a.attcollation
  where a.attrelid = tab and a.attname = any (key_columns) and not c.collisdeterministic
  union all
  select format('%s %s is fed by logical replication, which fires no statement triggers',
    label, tab)
  where exists (select from pg_catalog.pg_subscription_rel r where r.srrelid = tab)
  union all
  select format('%s %s: no immediate unique constraint or index on exactly (%s), not null', label,
    tab,
    array_to_string(key_columns, ', '))
  where cardinality(key_columns) > 0 and not exists (
    select from pg_catalog.pg_index i
    join pg_catalog.pg_class c on c.oid = i.indexrelid
    join pg_catalog.pg_am m on m.oid = c.relam and m.amname = 'btree'
    where i.indrelid = tab and i.indisunique and i.indimmediate and i.indisvalid
      and i.indpred is null and i.indexprs is null and not i.indisexclusion
      and (select array_agg(a.attname::text order by a.attname)
           from pg_catalog.pg_attribute a
           where a.attrelid = tab and a.attnum = any (i.indkey[0:i.indnkeyatts - 1])
             and a.attnotnull)
        = (select array_agg(k order by k) from unnest(key_columns) k))
  union all
  select format('%s %s: %s may not write it past row-level security (owner %s%s)', label, tab,
    current_user,
    t.relowner::regrole, case when t.relforcerowsecurity then ', FORCE' else '' end)
  from t
  where t.relrowsecurity and (t.relforcerowsecurity or not pg_has_role(t.relowner, 'usage'))
    and not (select r.rolbypassrls or r.rolsuper from pg_catalog.pg_roles r
      where r.rolname = current_user)
  union all
  select format(
    '%s %s: column "%s" begins with cf_, as the names in our statements do; run: alter table %2$s rename column %3$I to %4$I',
    label, tab, a.attname, concat(
      coalesce(nullif(substr(a.attname, 4), ''), 'renamed'), case when exists (
        select from pg_catalog.pg_attribute b
        where b.attrelid = tab and b.attname = substr(a.attname, 4)) then '_1' end))
  from pg_catalog.pg_attribute a
  where a.attrelid = tab and a.attnum > 0 and not a.attisdropped and left(a.attname, 3) = 'cf_'
  union all
  select crossfade_private.key_type_problems(tab, label, key_columns)
  union all
  select crossfade_private.deferred_problems(tab, label)
  union all
  select crossfade_private.table_owner_problems(tab, label);
$$;

comment on function crossfade_private.table_problems is
  'What keeps a table from being mirrored, one sentence a row.';

-- pairs/groups.sql --------------------------------------------------------------------------------

-- Pairs that change stage together: tied by foreign keys of either side, or by a name.

create or replace function crossfade_private.foreign_keys_between_pairs()
returns table (child text, parent text, side integer)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with tab as (
    select p.name, s.side, to_regclass(case s.side when 1 then p.v1_table else p.v2_table end) as id
    from crossfade.pairs p cross join (values (1), (2)) s(side)
  )
  select distinct c.name, p.name, c.side
  from pg_catalog.pg_constraint k
  join tab c on c.id = k.conrelid
  join tab p on p.id = k.confrelid and p.side = c.side and p.name <> c.name
  where k.contype = 'f';
$$;

comment on function crossfade_private.foreign_keys_between_pairs is
  'Which pair''s table of which side (1, 2) refers to that of which other pair.';

create or replace function crossfade_private.pair_ancestors()
returns table (pair text, ancestor text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- Pairs that refer to each other in a circle have no first one.
  with recursive edge as (
    select distinct k.child, k.parent from crossfade_private.foreign_keys_between_pairs() k
  ),
  above(pair, ancestor) as (
    select e.child, e.parent from edge e
    union
    select a.pair, e.parent from above a join edge e on e.child = a.ancestor
  )
  select a.pair, a.ancestor from above a
  where not exists (
    select from above b where b.pair = a.ancestor and b.ancestor = a.pair);
$$;

comment on function crossfade_private.pair_ancestors is
  'For each pair, all pairs to which its rows refer by foreign keys of either side, also through others; without those that refer back.';

create or replace function crossfade_private.pair_groups()
returns table (pair text, name text, place integer)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with recursive tie as (
    select k.child as one, k.parent as other from crossfade_private.foreign_keys_between_pairs() k
    union
    select a.name, b.name
    from crossfade.pairs a join crossfade.pairs b on b.options ->> 'group' = a.options ->> 'group'
  ),
  reached(pair, other) as (
    select p.name, p.name from crossfade.pairs p
    union
    select r.pair, case r.other when t.one then t.other else t.one end
    from reached r join tie t on r.other in (t.one, t.other)
  ),
  placed as (
    -- Whoever has an ancestor has all of the ancestor's too, so the number of them is an order.
    select p.name, p.options ->> 'group' as given, (
      select count(*)::integer from crossfade_private.pair_ancestors() a where a.pair = p.name)
      as place
    from crossfade.pairs p
  )
  select r.pair, coalesce(min(o.given),
      (array_agg(o.name order by o.place, o.name collate "C"))[1]),
    (select s.place from placed s where s.name = r.pair)
  from reached r join placed o on o.name = r.other
  group by r.pair;
$$;

comment on function crossfade_private.pair_groups is
  'The group of every pair: option group, or the name of the first pair of those that foreign keys of either side tie together, also through others; a pair that nothing ties is a group of its own. place: parents have a smaller one than their children.';

create or replace function crossfade_private.group_of(pair text)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select o.pair
  from crossfade_private.pair_groups() g
  join crossfade_private.pair_groups() o on o.name = g.name
  where g.pair = group_of.pair
  order by o.place, o.pair collate "C";
$$;

comment on function crossfade_private.group_of is
  'The pairs of the group of a pair, itself included, parents first.';

create or replace function crossfade_private.find_group(name text)
returns text[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pairs constant text[] := array(
    select g.pair from crossfade_private.pair_groups() g
    where g.name = (
      select o.name from crossfade_private.pair_groups() o
      where find_group.name in (o.name, o.pair)
      order by o.name = find_group.name desc limit 1)
    order by g.place, g.pair collate "C");
begin
  if v_pairs = '{}' then
    perform crossfade_private.fail(404, 'CF001', format('Unknown group "%s"', name),
      jsonb_build_object('group', name),
      'A group has the name of option group or of its first pair; crossfade group list shows them.');
  end if;
  return v_pairs;
end $$;

comment on function crossfade_private.find_group is
  'Names of the pairs of a group, parents first, by its name or that of a pair in it (CF001).';

create or replace function crossfade_private.group_problems(pair crossfade.pairs)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with tied as (
    select distinct g.name, o.options ->> 'group' as given
    from crossfade.pairs q
    join crossfade_private.pair_groups() g on g.pair = q.name
    join crossfade_private.pair_groups() m on m.name = g.name
    join crossfade.pairs o on o.name = m.pair
    where q.name <> (group_problems.pair).name and o.name <> (group_problems.pair).name and exists (
        select from (values
          (to_regclass((group_problems.pair).v1_table), to_regclass(q.v1_table)),
          (to_regclass((group_problems.pair).v2_table), to_regclass(q.v2_table))) t(own, other)
        join pg_catalog.pg_constraint k on k.contype = 'f'
          and (k.conrelid, k.confrelid) in ((t.own, t.other), (t.other, t.own)))
  ),
  named as (
    select t.given from tied t where t.given is not null
    union
    select (group_problems.pair).options ->> 'group'
    where (group_problems.pair).options ->> 'group' is not null
  )
  select format('group "%s" is no name: use 1 to 40 of a-z, 0-9 and _, starting with a letter',
    (group_problems.pair).options ->> 'group')
  where (group_problems.pair).options ->> 'group' !~ '^[a-z][a-z0-9_]{0,39}$'
  union all
  select format(
    'foreign keys tie it to pairs of several groups ("%s"), and pairs that are tied change stage together: register them all with one group, or with none',
    string_agg(n.given, '", "' order by n.given))
  from named n having count(*) > 1
  union all
  -- One word at a command must not mean two things.
  select format('group "%s" has the name of a pair that is not in it', g.given)
  from (
    select (group_problems.pair).options ->> 'group' as given, (group_problems.pair).name as taken
    union all
    select q.options ->> 'group', q.name from crossfade.pairs q
  ) g
  join (
    select q.name, q.options ->> 'group' as given from crossfade.pairs q
    where q.name <> (group_problems.pair).name
    union all
    select (group_problems.pair).name, (group_problems.pair).options ->> 'group'
  ) p on p.name = g.given and p.given is distinct from g.given
  group by g.given;
$$;

comment on function crossfade_private.group_problems is
  'What keeps a pair out of the group that its options or foreign keys put it in, one sentence each.';

-- pairs/problems.sql ------------------------------------------------------------------------------

-- What keeps a pair from being mirrored.

create or replace function crossfade_private.converter_problems(
  converter text, label text, source regclass, target regclass
)
returns setof text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_oid regproc := to_regproc(converter);
  v_proc pg_catalog.pg_proc;
  v_wanted text := format('%s(%s, %s) returns setof %s', converter, source, target, target);
begin
  if v_oid is null then
    return next format('function %s "%s" is missing or its name is not unique', label, converter);
    return;
  end if;
  select p.* into v_proc from pg_catalog.pg_proc p where p.oid = v_oid;
  -- oidvector counts from 0 and an array from 1, so they never compare equal: compare their text.
  if v_proc.proargtypes::text <> (
      select string_agg(c.reltype::text, ' ' order by c.oid = target)
      from pg_catalog.pg_class c where c.oid in (source, target))
    or not v_proc.proretset
    or v_proc.prorettype <> (select c.reltype from pg_catalog.pg_class c where c.oid = target) then
    return next format('function %s has the wrong type: wanted %s', label, v_wanted);
  end if;
  if v_proc.provolatile = 'v' then
    return next format('function %s %s is volatile: the same row must always give the same result',
      label, converter);
  end if;
  if v_proc.proisstrict then
    return next format(
      'function %s %s is strict: it would return nothing for a row without a counterpart', label,
      converter);
  end if;
end $$;

comment on function crossfade_private.converter_problems is
  'What is wrong with a converter, one sentence a row.';

create or replace function crossfade_private.primary_key(tab regclass)
returns text[]
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select array_agg(a.attname::text order by u.n)
  from pg_catalog.pg_index i
  cross join lateral unnest(i.indkey::smallint[]) with ordinality u(attnum, n)
  join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = u.attnum
  where i.indrelid = tab and i.indisprimary;
$$;

comment on function crossfade_private.primary_key is
  'Names of the primary key columns in key order; null without one.';

create or replace function crossfade_private.pair_problems(pair crossfade.pairs)
returns setof text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_1 regclass := (pair).v1_table;
  v_2 regclass := (pair).v2_table;
begin
  return query select crossfade_private.table_problems(v_1, 'V1', (pair).key_columns);
  return query select crossfade_private.table_problems(v_2, 'V2', (pair).v2_key_columns);
  -- A pair that is being drafted has none yet.
  if (pair).to_v2 is not null then
    return query select crossfade_private.converter_problems((pair).to_v2, 'to_v2', v_1, v_2);
  end if;
  if (pair).to_v1 is not null then
    return query select crossfade_private.converter_problems((pair).to_v1, 'to_v1', v_2, v_1);
  end if;
  return query select crossfade_private.converter_owner_problems(pair);
  return query select crossfade_private.key_pair_problems(pair);
  return query
    select format(
      'foreign key "%s" ties the two tables of the pair together: one of them could never be written first',
      c.conname)
    from pg_catalog.pg_constraint c
    where c.contype = 'f' and (c.conrelid, c.confrelid) in ((v_1, v_2), (v_2, v_1));
  return query
    select format('table %s already belongs to pair "%s"', p.t, p.name)
    from (select q.name, unnest(array[q.v1_table, q.v2_table]) t from crossfade.pairs q) p
    where p.name <> (pair).name and p.t::regclass in (v_1, v_2);
  if v_1 = v_2 then
    return next format('V1 and V2 are the same table %s', v_1);
  end if;
end $$;

comment on function crossfade_private.pair_problems is
  'Everything that keeps the two tables from being a pair.';

create or replace function crossfade_private.registration_problems(pair crossfade.pairs)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select crossfade_private.pair_problems(pair)
  union all
  select crossfade_private.group_problems(pair);
$$;

comment on function crossfade_private.registration_problems is
  'Everything that keeps a pair from being registered: of its tables, and of its group.';

create or replace function crossfade_private.outdated_mirror(pair crossfade.pairs)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format('its mirror was made by crossfade %s and not by %s',
    coalesce(nullif((pair).generator, ''), 'of unknown release'), crossfade_private.generator())
  where (pair).generator <> crossfade_private.generator() and (pair).stage <> 'retired'
  union all
  select format('%s has triggers (%s) for which its mirror was not made', u.tab,
    array_to_string(n.kinds, ', '))
  from unnest(array[(pair).v1_table, (pair).v2_table]) with ordinality u(tab, side)
  cross join lateral (
    select array(
      select unnest(crossfade_private.triggers_met(to_regclass(u.tab)))
      except
      select jsonb_array_elements_text(s.pieces -> 'triggers_met')
      from crossfade_private.pair_pieces s where s.pair = (outdated_mirror.pair).name
        and s.side = u.side
      order by 1) kinds
  ) n
  where cardinality(n.kinds) > 0;
$$;

comment on function crossfade_private.outdated_mirror is
  'Why crossfade.refresh_pair has to make the mirror of a pair anew, one sentence a row: another release made it, or the owner has added triggers of a kind since.';

create or replace function crossfade_private.mirror_problems(pair crossfade.pairs)
returns setof text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if to_regclass((pair).v1_table) is null or to_regclass((pair).v2_table) is null then
    return query select format('table %s does not exist', t)
      from unnest(array[(pair).v1_table, (pair).v2_table]) t where to_regclass(t) is null;
    return;
  end if;
  return query select crossfade_private.pair_problems(pair);
  return query select crossfade_private.publication_problems(pair);
  return query
    select format('%s; run: crossfade pair refresh %s', o, (pair).name)
    from crossfade_private.outdated_mirror(pair) o;
  -- Also seen here: another table that has taken the name.
  return query
    select format('trigger crossfade_mirror_%s of %s is missing or disabled', o.name, t)
    from unnest(array[(pair).v1_table, (pair).v2_table]) with ordinality u(t, side)
    cross join unnest(array['insert', 'update', 'delete', 'truncate']) o(name)
    where not exists (
      select from pg_catalog.pg_trigger g
      join pg_catalog.pg_proc f on f.oid = g.tgfoid
      where g.tgrelid = t::regclass and g.tgname = 'crossfade_mirror_' || o.name
        and g.tgenabled in ('O', 'A')
        and f.proname = format('mirror_%s_v%s_%s', (pair).name, u.side, o.name));
end $$;

comment on function crossfade_private.mirror_problems is
  'What has happened to the tables of a registered pair that keeps writes from being mirrored, one sentence a row.';

-- pairs/dependents.sql ----------------------------------------------------------------------------

-- What in the catalog depends on V1, and would be in the way when V1 becomes an archive.

create or replace function crossfade_private.name_pattern(tab regclass)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- As a word or in quotes, with its own schema or with none: other.things is not things.
  select format('(?:%s\s*\.\s*%s|(?<!\.\s*)%2$s)', p.words[1], p.words[2])
  from (
    select array_agg(case when u.name ~ '^[a-z_][a-z0-9_$]*$'
      then format('(?:(?<![\w$"])%1$s(?![\w$"])|"%1$s")', e.escaped)
      else format('"%s"', e.escaped) end
      order by u.place) as words
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    cross join lateral unnest(array[n.nspname::text, c.relname::text])
      with ordinality u(name, place)
    cross join lateral (
      select regexp_replace(replace(u.name, '"', '""'), '([^\w\s])', '\\\1', 'g') as escaped
    ) e
    where c.oid = tab
  ) p;
$$;

comment on function crossfade_private.name_pattern is
  'A regular expression that finds a table''s name in SQL, to be asked in small and capital letters (~*). A string or comment that happens to hold the name is found as well.';

create or replace function crossfade_private.catalog_dependents(tab regclass)
returns table (kind text, object text, owner oid, breaks text, command text, id oid)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select case c.relkind when 'v' then 'view' when 'm' then 'materialized view' else 'rule' end,
    case when c.relkind in ('v', 'm') then c.oid::regclass::text
      else format('%s of %s', quote_ident(r.rulename), c.oid::regclass) end,
    c.relowner, case c.relkind when 'v' then 'shows rows that no longer change'
      when 'm' then 'is refreshed from rows that no longer change'
      else 'reads or writes a table that refuses writes' end,
    case when c.relkind in ('v', 'm')
      then format('select pg_get_viewdef(%L::regclass, true);', c.oid::regclass)
      else format('select definition from pg_rules where rulename = %L;', r.rulename) end, r.oid
  from pg_catalog.pg_rewrite r
  join pg_catalog.pg_class c on c.oid = r.ev_class
  where c.oid <> tab and exists (
    select from pg_catalog.pg_depend d
    where d.classid = 'pg_rewrite'::regclass and d.objid = r.oid
      and d.refclassid = 'pg_class'::regclass and d.refobjid = tab)
  union all
  select 'policy', format('%s of %s', quote_ident(l.polname), l.polrelid::regclass), c.relowner,
    'decides by rows that no longer change',
    format('select qual, with_check from pg_policies where policyname = %L;', l.polname), l.oid
  from pg_catalog.pg_policy l join pg_catalog.pg_class c on c.oid = l.polrelid
  where l.polrelid <> tab and exists (
    select from pg_catalog.pg_depend d
    where d.classid = 'pg_policy'::regclass and d.objid = l.oid
      and d.refclassid = 'pg_class'::regclass and d.refobjid = tab)
  union all
  select 'default', format('%s.%I', a.attrelid::regclass, a.attname), c.relowner,
    format('takes its values from %s, which is dropped with %s', s.name, tab),
    case o.deptype when 'a' then format('alter sequence %s owned by none;', s.name)
      else format(
        'create sequence %1$s; select setval(%2$L, nextval(%3$L)); alter table %4$s alter column %5$I set default nextval(%2$L);',
        n.own, n.own, s.name, c.oid::regclass, a.attname) end, e.oid
  from pg_catalog.pg_depend o
  join pg_catalog.pg_class q on q.oid = o.objid and q.relkind = 'S'
  cross join lateral (select q.oid::regclass as name) s
  join pg_catalog.pg_depend u on u.refclassid = 'pg_class'::regclass and u.refobjid = q.oid
    and u.classid = 'pg_attrdef'::regclass
  join pg_catalog.pg_attrdef e on e.oid = u.objid
  join pg_catalog.pg_attribute a on a.attrelid = e.adrelid and a.attnum = e.adnum
  join pg_catalog.pg_class c on c.oid = a.attrelid
  cross join lateral (
    select format('%I.%I', c.relnamespace::regnamespace, concat(left(c.relname, 30), '_', left(
      a.attname, 20), '_own_seq')) as own
  ) n
  where o.classid = 'pg_class'::regclass and o.refclassid = 'pg_class'::regclass
    and o.refobjid = tab and o.refobjsubid > 0 and o.deptype in ('a', 'i') and c.oid <> tab;
$$;

comment on function crossfade_private.catalog_dependents is
  'Views, rules, policies and defaults that PostgreSQL knows to depend on a table or on a sequence that it owns; id is the oid of the rule of a view or rule, of a policy, of a default.';

create or replace function crossfade_private.function_dependents(tab regclass)
returns table (kind text, object text, owner oid, breaks text, command text, id oid)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with names as (
    select p.oid, p.prorettype, p.proowner
    from pg_catalog.pg_proc p
    join pg_catalog.pg_language l on l.oid = p.prolang and l.lanname not in ('c', 'internal')
    join pg_catalog.pg_namespace n on n.oid = p.pronamespace
      and n.nspname not in ('crossfade', 'crossfade_private', 'pg_catalog', 'information_schema')
    where not exists (
        select from pg_catalog.pg_depend d
        where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')
      and p.oid not in (
        select crossfade_private.called_functions(array[q.to_v2, q.to_v1]) from crossfade.pairs q)
      -- The first question is the cheap one.
      and (strpos(lower(p.prosrc), (
          select replace(lower(c.relname), '"', '""') from pg_catalog.pg_class c
          where c.oid = tab)) > 0
        and p.prosrc ~* crossfade_private.name_pattern(tab)
        or p.prosqlbody is not null and exists (
        select from pg_catalog.pg_depend d
        where d.classid = 'pg_proc'::regclass and d.objid = p.oid
          and d.refclassid = 'pg_class'::regclass and d.refobjid = tab))
      -- What only its own triggers call goes quiet with it.
      and (p.prorettype <> 'trigger'::regtype or not exists (
          select from pg_catalog.pg_trigger g where g.tgfoid = p.oid and g.tgrelid = tab)
        or exists (
          select from pg_catalog.pg_trigger g where g.tgfoid = p.oid and g.tgrelid <> tab))
  )
  select 'function', f.oid::regprocedure::text, f.proowner,
    'reads rows that no longer change, or writes a table that refuses writes',
    format('select pg_get_functiondef(%L::regprocedure);', f.oid::regprocedure), f.oid
  from names f
  union all
  select 'trigger', format('%s of %s', quote_ident(g.tgname), g.tgrelid::regclass), c.relowner,
    format('calls %s, and so would fail every write of its table if that writes',
      f.oid::regprocedure),
    format('select pg_get_triggerdef(oid) from pg_trigger where tgname = %L;', g.tgname), g.oid
  from names f
  join pg_catalog.pg_trigger g on g.tgfoid = f.oid and not g.tgisinternal and g.tgrelid <> tab
    and g.tgenabled <> 'D'
  join pg_catalog.pg_class c on c.oid = g.tgrelid;
$$;

comment on function crossfade_private.function_dependents is
  'Functions whose text names a table, and triggers of other tables that call them. Names that are put together at run time are not seen.';

-- pairs/dependents_of_pair.sql --------------------------------------------------------------------

-- Everything that depends on a pair's V1, for plans, blockers and whoever moves it to V2.

create or replace function crossfade_private.foreign_key_terms(child_key oid)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- From the catalog, not from the printed constraint: names in that may hold anything.
  select concat(case o.confmatchtype when 'f' then ' match full' end,
    ' on update ' || (a.words ->> o.confupdtype::text),
    ' on delete ' || (a.words ->> o.confdeltype::text), (
      select format(' (%s)', string_agg(quote_ident(c.attname), ', ' order by c.attnum))
      from pg_catalog.pg_attribute c
      where c.attrelid = o.conrelid and c.attnum = any (o.confdelsetcols)
      having count(*) > 0),
    case when o.condeferrable then ' deferrable' end,
    case when o.condeferred then ' initially deferred' end)
  from pg_catalog.pg_constraint o
  cross join lateral (
    select '{"r": "restrict", "c": "cascade", "n": "set null", "d": "set default"}'::jsonb
  ) a(words)
  where o.oid = child_key;
$$;

comment on function crossfade_private.foreign_key_terms is
  'What follows the columns of a foreign key: how it matches, what it does, when it is checked.';

create or replace function crossfade_private.child_key_change(
  child_key oid, pair crossfade.pairs
)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- NOT VALID first: checking every row then needs no lock that writers wait for.
  select format(
    'alter table %1$s drop constraint %2$I, add constraint %2$I foreign key (%3$s) references %4$s (%5$s)%6$s not valid',
    o.conrelid::regclass, o.conname, string_agg(quote_ident(a.attname), ', ' order by u.n),
    (pair).v2_table, string_agg(quote_ident(((pair).v2_key_columns)[array_position(
      (pair).key_columns, b.attname::text)]), ', ' order by u.n),
    crossfade_private.foreign_key_terms(o.oid))
  from pg_catalog.pg_constraint o
  cross join lateral unnest(o.conkey, o.confkey) with ordinality u(child, parent, n)
  join pg_catalog.pg_attribute a on a.attrelid = o.conrelid and a.attnum = u.child
  join pg_catalog.pg_attribute b on b.attrelid = o.confrelid and b.attnum = u.parent
  where o.oid = child_key
  group by o.oid
  having bool_and(b.attname::text = any ((pair).key_columns));
$$;

comment on function crossfade_private.child_key_change is
  'SQL that lets a foreign key point to V2 instead of V1, without looking at the rows there are; null when it does not point to the key.';

create or replace function crossfade_private.child_key_check(child_key oid)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format('alter table %s validate constraint %I', o.conrelid::regclass, o.conname)
  from pg_catalog.pg_constraint o where o.oid = child_key;
$$;

comment on function crossfade_private.child_key_check is
  'SQL that checks the rows there are by a foreign key. Locks writers out of neither table.';

create or replace function crossfade_private.job_dependents(tab regclass)
returns table (kind text, object text, owner oid, breaks text, command text, id oid)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if to_regclass('cron.job') is null then
    return;
  end if;
  return query execute format(
    'select %L::text, coalesce(j.jobname, j.jobid::text)::text, (
        select r.oid from pg_catalog.pg_roles r where r.rolname = j.username),
      %L::text, format(%L, j.jobid), null::oid from cron.job j where j.command ~* $1',
    'cron job', 'reads rows that no longer change, or writes a table that refuses writes',
    'select command from cron.job where jobid = %s;')
  using crossfade_private.name_pattern(tab);
exception when insufficient_privilege or undefined_column then
  return; -- not ours to see
end $$;

comment on function crossfade_private.job_dependents is
  'Jobs of pg_cron whose command names a table, as far as the engine''s owner may see them.';

create or replace function crossfade_private.v1_dependents(pair crossfade.pairs)
returns table (
  kind text, object text, owner text, breaks text, command text, is_ignored boolean, id oid
)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with v1 as (
    select to_regclass((pair).v1_table) as tab, to_regclass((pair).v2_table) as other
  ),
  found as (
    select 'foreign key' as kind, format('%I of %s', o.conname, o.conrelid::regclass) as object,
      c.relowner as owner, 'cannot point to rows that only version 2 has' as breaks,
      coalesce(
        crossfade_private.child_key_change(o.oid, pair) || '; '
          || crossfade_private.child_key_check(o.oid) || ';',
        format('alter table %s drop constraint %I;', o.conrelid::regclass, o.conname)) as command,
      o.oid as id
    from v1
    join pg_catalog.pg_constraint o on o.confrelid = v1.tab and o.contype = 'f'
      and o.conrelid not in (v1.tab, v1.other)
    join pg_catalog.pg_class c on c.oid = o.conrelid
    -- An archive may point to an archive, and the pairs of a group become that together.
    where not exists (
      select from crossfade.pairs q where to_regclass(q.v1_table) = o.conrelid)
    union all
    select d.* from v1 cross join lateral crossfade_private.catalog_dependents(v1.tab) d
    -- Entering complete makes these sequences V2's.
    where d.kind <> 'default' or not starts_with(d.object, v1.other || '.')
    union all
    select d.* from v1 cross join lateral crossfade_private.function_dependents(v1.tab) d
    union all
    select d.* from v1 cross join lateral crossfade_private.job_dependents(v1.tab) d
    union all
    select 'publication', p.name, b.pubowner,
      'sends changes of version 1, of which there are none, and none of version 2',
      format('alter publication %I add table %s;', p.name, (pair).v2_table), b.oid
    from v1
    cross join lateral crossfade_private.publications_of(v1.tab) p
    join pg_catalog.pg_publication b on b.pubname = p.name
    where p.name not in (select q.name from crossfade_private.publications_of(v1.other) q)
  )
  select f.kind, f.object, pg_get_userbyid(f.owner)::text, f.breaks, f.command,
    coalesce((pair).options -> 'ignore_dependents' ? f.object, false), f.id
  from found f
  order by f.kind, f.object;
$$;

comment on function crossfade_private.v1_dependents is
  'What depends on a pair''s V1: foreign keys of other tables, views, rules, policies, defaults, functions and triggers that name it, jobs, publications; each with its owner, what breaks when V1 is an archive, a command that mends or shows it, whether option ignore_dependents names it, and its oid (of a view its rule''s; null for a job).';

create or replace function crossfade_private.dependent_blockers(pair crossfade.pairs)
returns table (message text, hint text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format('%s on %s (%s): %s', case count(*) when 1 then '1 object depends'
      else count(*) || ' objects depend' end, (pair).v1_table, d.kind, string_agg(format(
        '%s (owner %s) %s', d.object, d.owner, d.breaks), '; ' order by d.object)),
    format(concat('%s Or have it written: crossfade handover plan %2$s. ',
        'Or go on with it: crossfade pair ignore %2$s %3$s --reason "..."'),
      string_agg(distinct d.command, ' '), (pair).name,
      string_agg('''' || replace(d.object, '''', '''\''''') || '''', ' ' order by d.object))
  from crossfade_private.v1_dependents(pair) d
  where not d.is_ignored
  group by d.kind
  order by d.kind;
$$;

comment on function crossfade_private.dependent_blockers is
  'One sentence and the way out for each kind of object that depends on V1 and is not ignored.';

-- pairs/drafts.sql --------------------------------------------------------------------------------

-- The row that a registration would write.

create or replace function crossfade_private.pair_row(
  name text, v1 text, v2 text, to_v2 text, to_v1 text, key text[], options jsonb
)
returns crossfade.pairs
language plpgsql stable
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off -- %I and the printing of types write by it
as $$
declare
  v_row crossfade.pairs;
  v_name text;
begin
  if coalesce(name, '') !~ '^[a-z][a-z0-9_]{0,39}$' then
    perform crossfade_private.fail(400, 'CF012', format('Invalid pair name "%s"', name),
      jsonb_build_object('name', name), 'Use 1 to 40 of a-z, 0-9 and _, starting with a letter.');
  end if;
  foreach v_name in array array[v1, v2] loop
    if to_regclass(v_name) is null then
      perform crossfade_private.fail(400, 'CF008',
        format('Cannot register pair "%s": table "%s" does not exist', name, v_name),
        jsonb_build_object('pair', name, 'problems',
          jsonb_build_array(format('table "%s" does not exist', v_name))),
        'Write the name with its schema, for example public.messages.');
    end if;
  end loop;
  v_row.name := name;
  select format('%I.%I', n.nspname, c.relname) into v_row.v1_table
  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where c.oid = to_regclass(v1);
  select format('%I.%I', n.nspname, c.relname) into v_row.v2_table
  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where c.oid = to_regclass(v2);
  select format('%I.%I', n.nspname, p.proname) into v_row.to_v2
  from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
    where p.oid = to_regproc(pair_row.to_v2);
  select format('%I.%I', n.nspname, p.proname) into v_row.to_v1
  from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
    where p.oid = to_regproc(pair_row.to_v1);
  v_row.to_v2 := coalesce(v_row.to_v2, pair_row.to_v2);
  v_row.to_v1 := coalesce(v_row.to_v1, pair_row.to_v1);
  v_row.key_columns := coalesce(key, crossfade_private.primary_key(v_row.v1_table::regclass), '{}');
  v_row.v2_key_columns := coalesce(
    (select array_agg(k) from jsonb_array_elements_text(options -> 'v2_key') k), v_row.key_columns);
  v_row.gate_flag := options ->> 'gate_flag';
  v_row.options := coalesce(options, '{}');
  return v_row;
end $$;

comment on function crossfade_private.pair_row is
  'Resolve the names given to register_pair; CF012 for a bad name, CF008 for a missing table.';

-- pairs/policies.sql ------------------------------------------------------------------------------

-- Who may write which rows, in both tables: whoever may not change a row of one table must not
-- change it through the other one.

create or replace function crossfade_private.column_renames(pair crossfade.pairs)
returns jsonb
language plpgsql volatile -- makes a function to print a converter, and removes it again
set search_path = pg_catalog, pg_temp
as $$
declare
  v_conversion jsonb := crossfade_private.conversion(
    (pair).to_v2, ((pair).v1_table)::regclass, ((pair).v2_table)::regclass);
begin
  return coalesce((
    -- A converter that is a bare select list says which column becomes which.
    select jsonb_object_agg(i.item ->> 'copies', c.col ->> 'name')
    from jsonb_array_elements(nullif(v_conversion -> 'items', 'null')) with ordinality i(item, n)
    join jsonb_array_elements(v_conversion -> 'columns') with ordinality c(col, n) using (n)
    where i.item ->> 'copies' is not null), '{}')
    || (select jsonb_object_agg(k1, k2)
    from unnest((pair).key_columns, (pair).v2_key_columns) u(k1, k2));
end $$;

comment on function crossfade_private.column_renames is
  'V2''s names of the columns that both tables hold, by V1''s, as far as the key and to_v2 say it. Locks both tables ACCESS SHARE.';

create or replace function crossfade_private.renamed_name(
  name text, columns jsonb, old_table text, new_table text
)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select string_agg(case
    when p.part = quote_ident(old_table) then quote_ident(new_table)
    -- A name behind that of another table is one of that table's.
    when p.place = 1 and p.parts = 1 or p.before = quote_ident(old_table) then coalesce(
      (select quote_ident(r.value) from jsonb_each_text(columns) r
        where quote_ident(r.key) = p.part),
      p.part)
    else p.part end, '.' order by p.place)
  from (
    select m[1] as part, lag(m[1]) over (order by n) as before, n as place,
      count(*) over () as parts
    from regexp_matches(name, '("(?:[^"]|"")*"|[A-Za-z_][A-Za-z0-9_$]*)', 'g')
      with ordinality t(m, n)
  ) p;
$$;

comment on function crossfade_private.renamed_name is
  'A name in printed SQL, in one part or several, in which a table and its columns have other names.';

create or replace function crossfade_private.renamed_sql(
  expression text, columns jsonb, old_table text, new_table text
)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select string_agg(case when t.m[1] ~ '^["A-Za-z_]'
    then crossfade_private.renamed_name(t.m[1], columns, old_table, new_table)
    else t.m[1] end, '' order by t.n)
  -- Constants, names with all their parts, and everything else by the character.
  from regexp_matches(expression, '(''(?:[^'']|'''')*''|(?:"(?:[^"]|"")*"|[A-Za-z_][A-Za-z0-9_$]*)'
    || '(?:\.(?:"(?:[^"]|"")*"|[A-Za-z_][A-Za-z0-9_$]*))*|.)', 'g') with ordinality t(m, n);
$$;

comment on function crossfade_private.renamed_sql is
  'Printed SQL in which a table and its columns have other names.';

create or replace function crossfade_private.write_policies(tab regclass)
returns table (command text, role text, permissive boolean, using_text text, check_text text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select c.name, case r.id when 0 then 'public' else pg_get_userbyid(r.id)::text end,
    l.polpermissive,
    case when c.letter <> 'a' then pg_get_expr(l.polqual, tab) end,
    -- Without a CHECK of its own a policy checks new rows by its USING.
    case when c.letter <> 'd' then
      coalesce(pg_get_expr(l.polwithcheck, tab), pg_get_expr(l.polqual, tab)) end
  from pg_catalog.pg_policy l
  join (values ('a', 'insert'), ('w', 'update'), ('d', 'delete')) c(letter, name)
    on l.polcmd::text in (c.letter, '*')
  cross join lateral unnest(l.polroles) r(id)
  where l.polrelid = tab;
$$;

comment on function crossfade_private.write_policies is
  'The policies of a table that decide about writes, one row a command and role.';

create or replace function crossfade_private.client_policy_text(pair text)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select format('( SELECT (crossfade.my_backend(%L::text) = 2))', pair);
$$;

comment on function crossfade_private.client_policy_text is
  'How PostgreSQL prints the expression of the policy that "crossfade pair client-policy" drafts.';

create or replace function crossfade_private.client_policies(pair text)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format('%I on %s', l.polname, l.polrelid::regclass)
  from pg_catalog.pg_policy l
  -- However the call is written: a name of a pair holds no special characters.
  where concat(pg_get_expr(l.polqual, l.polrelid), pg_get_expr(l.polwithcheck, l.polrelid))
    ~ format('my_backend\([^()]*''%s''::text', pair)
  order by 1;
$$;

comment on function crossfade_private.client_policies is
  'Policies that ask my_backend for this pair, as drop policy names them: without the pair they would fail for everybody.';

create or replace function crossfade_private.write_policy_warnings(pair crossfade.pairs)
returns setof text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_1 constant regclass := (pair).v1_table;
  v_2 constant regclass := (pair).v2_table;
  v_on boolean[] := array(
    select c.relrowsecurity from pg_catalog.pg_class c
    where c.oid in (v_1, v_2) order by c.oid = v_2);
  v_columns jsonb;
  v_names text[] := array(
    select c.relname::text from pg_catalog.pg_class c
    where c.oid in (v_1, v_2) order by c.oid = v_2);
begin
  if v_on[1] <> v_on[2] then
    return next format(
      'row-level security is on for %s and off for %s: everybody may write there what the policies forbid here; run: alter table %2$s enable row level security',
      case when v_on[1] then v_1 else v_2 end, case when v_on[1] then v_2 else v_1 end);
  elsif v_on[1] then
    v_columns := crossfade_private.column_renames(pair);
    return query
      with one as (
        select distinct p.command, p.role, p.permissive,
          crossfade_private.renamed_sql(p.using_text, v_columns, v_names[1], v_names[2])
            as using_text,
          crossfade_private.renamed_sql(p.check_text, v_columns, v_names[1], v_names[2])
            as check_text
        from crossfade_private.write_policies(v_1) p
      ),
      two as (
        select distinct p.command, p.role, p.permissive, p.using_text, p.check_text
        from crossfade_private.write_policies(v_2) p
        -- It holds users to V1 for a while; V1 needs nothing like it.
        where p.permissive
          or p.using_text <> crossfade_private.client_policy_text((pair).name)
          or p.check_text <> crossfade_private.client_policy_text((pair).name)
      ),
      differing as (
        (select 1 as side, o.* from one o except select 1, t.* from two t)
        union all
        (select 2, t.* from two t except select 2, o.* from one o)
      )
      select format(
        'policies of both tables differ for %s by %s: %s; make them equal, or see with: crossfade pair check-rls %s --user ID',
        d.command, d.role, string_agg(format('only V%s has a %s one%s%s', d.side,
          case when d.permissive then 'permissive' else 'restrictive' end,
          ' using ' || d.using_text, ' with check ' || d.check_text), ', ' order by d.side,
          d.using_text, d.check_text), (pair).name)
      from differing d group by d.command, d.role order by d.command, d.role;
  end if;
  return query
    select format(
      'role %s may %s %s and not %s; run: revoke %2$s on %3$s from %1$I, or grant it on the other',
      r.name, c.name, case when g.two then v_2 else v_1 end, case when g.two then v_1 else v_2 end)
    from (values ('anon'), ('authenticated')) r(name)
    join pg_catalog.pg_roles o on o.rolname = r.name
    cross join (values ('insert'), ('update'), ('delete')) c(name)
    cross join lateral (
      select case c.name when 'delete' then has_table_privilege(o.oid, v_1, 'delete')
          else has_any_column_privilege(o.oid, v_1, c.name) end as one,
        case c.name when 'delete' then has_table_privilege(o.oid, v_2, 'delete')
          else has_any_column_privilege(o.oid, v_2, c.name) end as two
    ) g
    where g.one <> g.two;
end $$;

comment on function crossfade_private.write_policy_warnings is
  'Where the two tables let different people write, as far as their policies and grants say it; expressions are compared as text, with V1''s names replaced by V2''s.';

-- pairs/repointing.sql ----------------------------------------------------------------------------

-- Definitions that read V2 in place of V1, and the proof that they mean the same: only columns are
-- read that both converters copy as they are, PostgreSQL prints the new definition as it is
-- written, and whoever reads may read V2 as well.

create or replace function crossfade_private.copied_columns(pair crossfade.pairs)
returns text[]
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(array_agg(a.attname::text order by a.attnum), '{}')
  from pg_catalog.pg_attribute a
  join pg_catalog.pg_attribute b on b.attname = a.attname and b.attnum > 0 and not b.attisdropped
    and (b.atttypid, b.atttypmod, b.attcollation) = (a.atttypid, a.atttypmod, a.attcollation)
  where a.attrelid = ((pair).v1_table)::regclass and b.attrelid = ((pair).v2_table)::regclass
    and a.attnum > 0 and not a.attisdropped
    and a.attname::text in (
      select i.item ->> 'copies'
      from jsonb_array_elements(crossfade_private.pair_conversions(pair))
        with ordinality v(conversion, side)
      cross join lateral jsonb_array_elements(nullif(v.conversion -> 'items', 'null'))
        with ordinality i(item, n)
      join lateral jsonb_array_elements(v.conversion -> 'columns')
        with ordinality c(col, n) using (n)
      where i.item ->> 'copies' = c.col ->> 'name'
      group by i.item ->> 'copies' having count(distinct v.side) = 2);
$$;

comment on function crossfade_private.copied_columns is
  'The columns that both tables have by the same name and type, and that both converters copy as they are. Locks both tables ACCESS SHARE.';

create or replace function crossfade_private.read_columns(class regclass, id oid, tab regclass)
returns text[]
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(array_agg(distinct a.attname::text), '{}')
  from pg_catalog.pg_depend d
  join pg_catalog.pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
  where d.classid = class and d.objid = id and d.refclassid = 'pg_class'::regclass
    and d.refobjid = tab;
$$;

comment on function crossfade_private.read_columns is
  'Names of the columns of a table that an object of a catalog depends on, those of the system among them.';

create or replace function crossfade_private.row_reason(
  class regclass, id oid, tree text, tab regclass
)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select case
    -- PostgreSQL keeps no record of a row as a whole; the tree has it as column 0.
    when strpos(tree, ':varattno 0 ') > 0 then 'it reads a row as a whole'
    when exists (
      select from pg_catalog.pg_depend d
      join pg_catalog.pg_type y on y.oid = d.refobjid
      where d.classid = class and d.objid = id and d.refclassid = 'pg_type'::regclass
        and tab in (y.typrelid, (
          select e.typrelid from pg_catalog.pg_type e where e.oid = y.typelem)))
      then 'it uses the row type of version 1'
    end;
$$;

comment on function crossfade_private.row_reason is
  'Why the columns that an object depends on are not all that it sees of a table; null when they are.';

create or replace function crossfade_private.passes_policies(reader text, tab regclass)
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select not c.relrowsecurity or coalesce((
    select r.rolsuper or r.rolbypassrls
      or pg_has_role(r.oid, c.relowner, 'usage') and not c.relforcerowsecurity
    from pg_catalog.pg_roles r where r.rolname = reader), false)
  from pg_catalog.pg_class c where c.oid = tab;
$$;

comment on function crossfade_private.passes_policies is
  'Whether a role sees every row of a table, whatever its policies say.';

create or replace function crossfade_private.may_read(
  reader text, tab regclass, columns text[]
)
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select case when cardinality(columns) = 0 then has_any_column_privilege(reader, tab, 'select')
    else (select bool_and(has_column_privilege(reader, tab, c, 'select')) from unnest(columns) c)
    end;
$$;

comment on function crossfade_private.may_read is
  'Whether a role, or public, may select these columns of a table; without columns, whether it may count its rows.';

create or replace function crossfade_private.readers(tab regclass)
returns text[]
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select array_agg(distinct case g.grantee when 0 then 'public'
    else pg_get_userbyid(g.grantee)::text end)
  from pg_catalog.pg_class c
  cross join lateral (
    select coalesce(c.relacl, acldefault('r', c.relowner))
    union all
    select a.attacl from pg_catalog.pg_attribute a
    where a.attrelid = c.oid and a.attacl is not null and not a.attisdropped
  ) l(acl)
  cross join lateral aclexplode(l.acl) g
  where c.oid = tab and g.privilege_type = 'SELECT';
$$;

comment on function crossfade_private.readers is
  'The roles that a table, or a column of it, is granted to for reading; public is everybody.';

create or replace function crossfade_private.read_policies(tab regclass, new_table regclass)
returns table (permissive boolean, roles text, expression text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select l.polpermissive, l.polroles::text, crossfade_private.renamed_sql(
    pg_get_expr(l.polqual, l.polrelid), '{}', o.relname, n.relname)
  from pg_catalog.pg_policy l, pg_catalog.pg_class o, pg_catalog.pg_class n
  where l.polrelid = tab and l.polcmd in ('r', '*') and o.oid = tab and n.oid = new_table;
$$;

comment on function crossfade_private.read_policies is
  'The policies that decide which rows of a table are seen, as if it were the new one.';

create or replace function crossfade_private.reader_reason(
  readers text[], columns text[], v1 regclass, v2 regclass
)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select string_agg(q.reason, '; ')
  from (
    select format('%s may not read %s', string_agg(r, ', ' order by r), v2) as reason
    from unnest(readers) r
    where crossfade_private.may_read(r, v1, columns)
      and not crossfade_private.may_read(r, v2, columns)
    having count(*) > 0
    union all
    select format('the policies of %s and %s may show %s other rows', v1, v2,
      string_agg(r, ', ' order by r))
    from unnest(readers) r
    where (crossfade_private.passes_policies(r, v1), crossfade_private.passes_policies(r, v2))
        not in ((true, true), (false, false))
      or not crossfade_private.passes_policies(r, v2) and exists (
        (select * from crossfade_private.read_policies(v1, v2)
          except select * from crossfade_private.read_policies(v2, v2))
        union all
        (select * from crossfade_private.read_policies(v2, v2)
          except select * from crossfade_private.read_policies(v1, v2)))
    having count(*) > 0
  ) q;
$$;

comment on function crossfade_private.reader_reason is
  'Why roles would not see in V2 what they see in V1: a right they lack, or other policies; null when they do.';

create or replace function crossfade_private.repointed_text(
  printed text, v1 regclass, v2 regclass
)
returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_1 text[];
  v_reason text;
  v_text text;
begin
  select array[quote_ident(n.nspname), quote_ident(c.relname)] into v_1
  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where c.oid = v1;
  with near as (
    select t.*, lag(t.token) over w as before, lag(t.token, 2) over w as before_2,
      lead(t.token) over w as after, lead(t.token, 2) over w as after_2,
      lead(t.token, 3) over w as after_3, lead(t.token, 4) over w as after_4
    from crossfade_private.printed_tokens(printed) t window w as (order by t.n)
  ),
  named as (
    select near.*, token = v_1[1] and after = '.' and after_2 = v_1[2]
        and before is distinct from '.' as is_v1
    from near
  ),
  marked as (
    select named.*, coalesce(lag(is_v1) over w, false) as is_dot,
      coalesce(lag(is_v1, 2) over w, false) as is_table
    from named window w as (order by n)
  )
  select
    string_agg(case
      when is_v1 then space || v2::text
      when is_dot then ''
      -- Columns are printed behind the name of their table, which the alias keeps for them.
      when is_table then case when coalesce(crossfade_private.is_name(after), false) then ''
        else ' ' || token end
      else space || token end, '' order by n),
    min(case
      when is_v1 and (coalesce(before, '') not in ('FROM', 'JOIN', ',', '(')
        or before = 'FROM' and before_2 = 'DELETE') then 'it does more with version 1 than read it'
      when is_v1 and (after_3 in ('.', '(', 'TABLESAMPLE')
        or crossfade_private.is_name(after_3) and after_4 in ('(', 'TABLESAMPLE'))
        then 'it gives the columns of version 1 other names, or takes a sample'
      when token = 'FOR' and after in ('UPDATE', 'NO', 'SHARE', 'KEY') then 'it locks rows'
      when left(token, 1) = '''' and token ~* crossfade_private.name_pattern(v1)
        then 'a text in it holds the name of version 1' end)
  into v_text, v_reason
  from marked;
  if v_reason is not null then
    raise exception '%', v_reason;
  end if;
  return v_text;
end $$;

comment on function crossfade_private.repointed_text is
  'A printed query that reads V2 wherever it has read V1, which goes on under V1''s name; what has to be proved is that PostgreSQL understands it so. Raises where it is more than a query.';

create or replace function crossfade_private.same_sql(one text, other text)
returns boolean
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select array(select t.token from crossfade_private.printed_tokens(one) t order by t.n)
    = array(select t.token from crossfade_private.printed_tokens(other) t order by t.n);
$$;

comment on function crossfade_private.same_sql is
  'Whether two printed texts differ in nothing but the space between words.';

create or replace function crossfade_private.prove_repointed(
  class regclass, id oid, written text, printed text, columns text[], v1 regclass, v2 regclass
)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Whatever a name in it has come to mean would be printed behind another alias or not at all.
  if not crossfade_private.same_sql(written, printed)
    or crossfade_private.read_columns(class, id, v2) @> columns is not true
    or exists (
      select from pg_catalog.pg_depend d
      where d.classid = class and d.objid = id and d.refclassid = 'pg_class'::regclass
        and d.refobjid = v1)
  then
    raise exception 'PostgreSQL understands it in another way when it reads %', v2;
  end if;
end $$;

comment on function crossfade_private.prove_repointed is
  'Raises unless an object that was made of a written text is printed like it, and depends on these columns of V2 and not on V1.';

create or replace function crossfade_private.repointed_query(
  query text, columns text[], v1 regclass, v2 regclass
)
returns text
language plpgsql volatile -- makes a view and removes it again
set search_path = pg_catalog, pg_temp
as $$
declare
  v_query text := rtrim(query, E' \n;');
  v_new text := crossfade_private.repointed_text(v_query, v1, v2);
  v_old_columns text;
  v_new_columns text;
begin
  -- Not the object itself: that would lock its readers out. None of it runs.
  execute 'create temporary view cf_old as ' || v_query;
  execute 'create temporary view cf_new as ' || v_new;
  perform crossfade_private.prove_repointed('pg_rewrite', r.oid, v_new,
    rtrim(pg_get_viewdef(r.ev_class), E' \n;'), columns, v1, v2)
  from pg_catalog.pg_rewrite r where r.ev_class = to_regclass('pg_temp.cf_new');
  select string_agg(c.kind, ',' order by c.n) filter (where c.is_old),
    string_agg(c.kind, ',' order by c.n) filter (where not c.is_old)
  into v_old_columns, v_new_columns
  from (
    select a.attnum as n, a.attrelid = to_regclass('pg_temp.cf_old') as is_old,
      format('%I %s %s %s', a.attname, a.atttypid, a.atttypmod, a.attcollation) as kind
    from pg_catalog.pg_attribute a
    where a.attnum > 0
      and a.attrelid in (to_regclass('pg_temp.cf_old'), to_regclass('pg_temp.cf_new'))
  ) c;
  if v_old_columns is distinct from v_new_columns then
    raise exception 'its columns would have other names or types';
  end if;
  execute 'drop view pg_temp.cf_old, pg_temp.cf_new';
  return v_new;
end $$;

comment on function crossfade_private.repointed_query is
  'A query that reads V2 in place of V1, proved on temporary views. Raises what is against it.';

create or replace function crossfade_private.repointed_function(
  id oid, columns text[], v1 regclass, v2 regclass
)
returns text
language plpgsql volatile -- makes a function and removes it again
set search_path = pg_catalog, pg_temp
as $$
declare
  v_definition text := rtrim(pg_get_functiondef(id), E' \n');
  v_body text := pg_get_function_sqlbody(id);
  v_head text := left(v_definition, -length(v_body));
  v_new text := crossfade_private.repointed_text(v_body, v1, v2);
  v_words text;
  v_name text;
  v_made oid;
begin
  select format('CREATE OR REPLACE %s %I.', case p.prokind when 'p' then 'PROCEDURE'
      else 'FUNCTION' end, n.nspname), p.proname
  into v_words, v_name
  from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
  where p.oid = id;
  if v_head || v_body <> v_definition or not starts_with(v_head, v_words) then
    raise exception 'its definition is printed in an unknown way';
  end if;
  -- By its own name, behind which its parameters stand in queries; nobody finds it there.
  execute 'create ' || case when v_words like '%PROCEDURE%' then 'procedure' else 'function' end
    || ' pg_temp.' || substr(v_head, length(v_words) + 1) || v_new;
  select p.oid into v_made
  from pg_catalog.pg_proc p where p.pronamespace = pg_my_temp_schema() and p.proname = v_name;
  perform crossfade_private.prove_repointed(
    'pg_proc', v_made, v_new, pg_get_function_sqlbody(v_made), columns, v1, v2);
  execute format('drop routine %s', v_made::regprocedure);
  return v_head || v_new;
end $$;

comment on function crossfade_private.repointed_function is
  'The definition of a function with a standard body that reads V2 in place of V1, proved on a temporary one. Raises what is against it.';

-- pairs/handover.sql ------------------------------------------------------------------------------

-- The hand-over: a migration that re-points to V2 what depends on V1, as far as that is provably
-- right, and shows the rest as comments.

create or replace function crossfade_private.commented(lines text)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  -- Either sign ends a comment; a name or a text may hold both.
  select '-- ' || regexp_replace(rtrim(lines), E'\r\n|\r|\n', E'\n-- ', 'g');
$$;

comment on function crossfade_private.commented is
  'A text as comments of SQL, whatever it holds.';

create or replace function crossfade_private.dollar_quoted(body text)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  -- A text cannot hold as many different tags as it has characters.
  select format(E'%s\n%s\n%1$s', t.tag, body)
  from (
    select format('$cf%s$', n) as tag
    from generate_series(1, length(body) + 1) n
    where strpos(body, format('$cf%s$', n)) = 0
    order by n limit 1
  ) t;
$$;

comment on function crossfade_private.dollar_quoted is
  'A text as a constant of SQL on lines of its own, with a tag that does not stand in it.';

create or replace function crossfade_private.guarded(
  condition text, statement text, object text
)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select format('do %s;', crossfade_private.dollar_quoted(format(
    E'begin\n  if %s then\n    execute %s;\n  else\n    raise notice ''%%'', %L;\n  end if;\nend',
    condition, crossfade_private.dollar_quoted(statement),
    object || ' is not what it was when this was written, and stays as it is')));
$$;

comment on function crossfade_private.guarded is
  'A statement that is executed under a condition, so that a second time it does nothing.';

create or replace function crossfade_private.hand_over_key(id oid, pair crossfade.pairs)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object('reason', w.reason,
    'columns', case when k.change is null then to_jsonb(array(
      select a.attname::text from pg_catalog.pg_attribute a
      where a.attrelid = o.confrelid and a.attnum = any (o.confkey)
        and a.attname::text <> all ((pair).key_columns) order by a.attnum)) end,
    'shown', coalesce(k.change, format('alter table %s drop constraint %I', t.name, o.conname))
      || ';',
    'sql', case when w.reason is null then crossfade_private.guarded(
      format('exists (
    select from pg_constraint o
    where o.contype = ''f'' and o.conname = %L
      and o.conrelid = to_regclass(%L) and o.confrelid = to_regclass(%L))', o.conname, t.name,
        (pair).v1_table),
      concat(k.change, format(E';\ncomment on constraint %I on %s is ', o.conname, t.name)
        || quote_literal(obj_description(o.oid, 'pg_constraint'))), t.object) end,
    -- One that nobody has checked so far stays so.
    'check_sql', case when w.reason is null and o.convalidated then crossfade_private.guarded(
      format('exists (
    select from pg_constraint o
    where o.contype = ''f'' and o.conname = %L and not o.convalidated
      and o.conrelid = to_regclass(%L) and o.confrelid = to_regclass(%L))', o.conname, t.name,
        (pair).v2_table),
      crossfade_private.child_key_check(o.oid), t.object) end)
  from pg_catalog.pg_constraint o
  join pg_catalog.pg_class c on c.oid = o.conrelid
  cross join lateral (
    select o.conrelid::regclass::text, format('%I of %s', o.conname, o.conrelid::regclass)
  ) t(name, object)
  cross join lateral (select crossfade_private.child_key_change(o.oid, pair)) k(change)
  cross join lateral (
    select case
      when o.conparentid <> 0 then 'it goes with the foreign key of the partitioned table'
      when k.change is null then 'it points to columns that are not the key of the pair'
      when c.relkind = 'p'
        then 'its table is partitioned: writers would wait until every row is checked'
      when to_jsonb(o) ->> 'conenforced' = 'false' then 'it is not enforced'
      end
  ) w(reason)
  where o.oid = id;
$$;

comment on function crossfade_private.hand_over_key is
  'How a foreign key comes to point to V2: {"reason": why it is not done, "columns", "shown", "sql", "check_sql"}.';

create or replace function crossfade_private.object_reason(
  class regclass, id oid, tree text, is_owners boolean, owner oid, columns text[],
  pair crossfade.pairs
)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(
    crossfade_private.row_reason(class, id, tree, t.v1),
    crossfade_private.reader_reason(case when is_owners
      then array[pg_get_userbyid(owner)::text] else crossfade_private.readers(t.v1) end,
      columns, t.v1, t.v2))
  from (select ((pair).v1_table)::regclass, ((pair).v2_table)::regclass) t(v1, v2);
$$;

comment on function crossfade_private.object_reason is
  'Why what an object sees of V1 may not be what it would see of V2; null when nothing is known. is_owners: it reads with the rights of its owner.';

create or replace function crossfade_private.hand_over_view(
  id oid, columns text[], reason text, pair crossfade.pairs
)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_view pg_catalog.pg_class;
  v_name text;
  v_query text;
  v_head text;
  v_reason text := reason;
  v_sql text;
begin
  select c.* into v_view
  from pg_catalog.pg_rewrite r join pg_catalog.pg_class c on c.oid = r.ev_class where r.oid = id;
  v_name := v_view.oid::regclass;
  v_query := pg_get_viewdef(v_view.oid);
  v_head := format('%s%s%s as', case v_view.relkind when 'v' then 'create or replace view '
    else 'create materialized view ' end, v_name, (
    select format(' with (%s)', string_agg(format('%I = %L', split_part(o, '=', 1),
      substr(o, strpos(o, '=') + 1)), ', '))
    from unnest(v_view.reloptions) o having count(*) > 0));
  v_reason := coalesce(v_reason, crossfade_private.object_reason('pg_rewrite', id, (
    select r.ev_action::text from pg_catalog.pg_rewrite r where r.oid = id),
    not exists (
      select from unnest(v_view.reloptions) o
      where split_part(o, '=', 1) = 'security_invoker' and split_part(o, '=', 2)::boolean),
    v_view.relowner, columns, pair));
  if v_reason is null then
    begin
      v_query := crossfade_private.repointed_query(
        v_query, columns, ((pair).v1_table)::regclass, ((pair).v2_table)::regclass);
    exception when others then
      v_reason := sqlerrm;
    end;
  end if;
  if v_view.relkind = 'm' then
    v_reason := coalesce(v_reason,
      'it has to be dropped and made again, with its indexes, grants and comments');
    v_query := concat_ws(E';\n', rtrim(v_query, ';'), (
      select string_agg(pg_get_indexdef(i.indexrelid), E';\n' order by i.indexrelid::regclass::text)
      from pg_catalog.pg_index i where i.indrelid = v_view.oid)) || ';';
  elsif v_reason is null then
    v_sql := crossfade_private.guarded(format('exists (
    select from pg_class c
    where c.oid = to_regclass(%L) and c.relkind = ''v''
      and md5(concat(c.reloptions, pg_get_viewdef(c.oid))) = %L)', v_name,
      md5(concat(v_view.reloptions, pg_get_viewdef(v_view.oid)))),
      format(E'%s\n%s', v_head, v_query), v_name);
  end if;
  return jsonb_build_object('reason', v_reason, 'sql', v_sql,
    'shown', format(E'%s\n%s', v_head, v_query),
    'note', case when v_sql is not null and pg_relation_is_updatable(v_view.oid, true) <> 0
      then 'Rows can be written through it: from then on into version 2, with its defaults.' end);
end $$;

comment on function crossfade_private.hand_over_view is
  'How a view comes to read V2: {"reason": why it does not, "sql", "shown": its definition, "note"}. id is that of its rule.';

create or replace function crossfade_private.hand_over_function(
  id oid, columns text[], reason text, pair crossfade.pairs
)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_proc pg_catalog.pg_proc;
  v_definition text := pg_get_functiondef(id);
  v_reason text := reason;
  v_new text;
begin
  select p.* into v_proc from pg_catalog.pg_proc p where p.oid = id;
  if v_proc.prosqlbody is null then
    v_reason := 'its body is a text, in which names cannot be told from other words';
  end if;
  v_reason := coalesce(v_reason, crossfade_private.object_reason('pg_proc', id,
    v_proc.prosqlbody::text, v_proc.prosecdef, v_proc.proowner, columns, pair));
  if v_reason is null then
    begin
      v_new := crossfade_private.repointed_function(
        id, columns, ((pair).v1_table)::regclass, ((pair).v2_table)::regclass);
    exception when others then
      v_reason := sqlerrm;
    end;
  end if;
  return jsonb_build_object('reason', v_reason, 'shown', rtrim(v_definition, E' \n') || ';',
    'sql', case when v_reason is null then crossfade_private.guarded(format('exists (
    select from pg_proc p
    where p.oid = to_regprocedure(%L) and md5(pg_get_functiondef(p.oid)) = %L)',
      id::regprocedure, md5(v_definition)), v_new, id::regprocedure::text) end);
end $$;

comment on function crossfade_private.hand_over_function is
  'How a function comes to read V2: {"reason": why it does not, "sql", "shown": its definition}.';

create or replace function crossfade_private.policy_change(
  policy pg_catalog.pg_policy, using_text text, check_text text
)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select concat(
    format('alter policy %I on %s', (policy).polname, ((policy).polrelid)::regclass),
    E'\n  using (' || using_text || ')', E'\n  with check (' || check_text || ')');
$$;

comment on function crossfade_private.policy_change is
  'SQL that gives a policy other expressions; its name, roles, command and comment stay.';

create or replace function crossfade_private.hand_over_policy(
  id oid, columns text[], reason text, pair crossfade.pairs
)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_1 constant regclass := (pair).v1_table;
  v_2 constant regclass := (pair).v2_table;
  v_policy pg_catalog.pg_policy;
  v_using text;
  v_check text;
  v_reason text := reason;
  v_new text;
begin
  select l.* into v_policy from pg_catalog.pg_policy l where l.oid = id;
  v_using := pg_get_expr(v_policy.polqual, v_policy.polrelid);
  v_check := pg_get_expr(v_policy.polwithcheck, v_policy.polrelid);
  if v_policy.polrelid = v_2 then
    v_reason := 'it is a policy of version 2, which would ask itself';
  end if;
  v_reason := coalesce(v_reason, crossfade_private.object_reason('pg_policy', id,
    concat(v_policy.polqual::text, v_policy.polwithcheck::text), false, null, columns, pair));
  if v_reason is null then
    begin
      -- Proved where a query is, printed as a query prints it; then written as a policy does.
      execute format('create temporary view cf_asked as select from %s where %s',
        v_policy.polrelid::regclass,
        concat_ws(' and ', '(' || v_using || ')', '(' || v_check || ')'));
      perform crossfade_private.repointed_query(
        pg_get_viewdef(to_regclass('pg_temp.cf_asked')), columns, v_1, v_2);
      execute 'drop view pg_temp.cf_asked';
      v_new := crossfade_private.policy_change(v_policy,
        crossfade_private.repointed_text(v_using, v_1, v_2),
        crossfade_private.repointed_text(v_check, v_1, v_2));
    exception when others then
      v_reason := sqlerrm;
    end;
  end if;
  return jsonb_build_object('reason', v_reason,
    'shown', crossfade_private.policy_change(v_policy, v_using, v_check) || ';',
    'sql', case when v_reason is null then crossfade_private.guarded(format('exists (
    select from pg_policy l
    where l.polrelid = to_regclass(%L) and l.polname = %L
      and md5(concat(pg_get_expr(l.polqual, l.polrelid), '';'',
        pg_get_expr(l.polwithcheck, l.polrelid))) = %L)', v_policy.polrelid::regclass,
      v_policy.polname, md5(concat(v_using, ';', v_check))), v_new,
      format('%I of %s', v_policy.polname, v_policy.polrelid::regclass)) end);
end $$;

comment on function crossfade_private.hand_over_policy is
  'How a policy of another table comes to ask V2: {"reason": why it does not, "sql", "shown"}.';

create or replace function crossfade_private.hand_over_publication(id oid, pair crossfade.pairs)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object('reason', w.reason, 'shown', n.command || coalesce(' (' || (
      select string_agg(quote_ident(a.attname), ', ' order by a.attnum)
      from pg_catalog.pg_attribute a
      where a.attrelid = t.v1 and a.attnum = any (r.prattrs)) || ')', '')
      || coalesce(' where ' || pg_get_expr(r.prqual, r.prrelid), '') || ';',
    'sql', case when w.reason is null then crossfade_private.guarded(format('exists (
    select from pg_publication p
    where p.pubname = %L and not exists (
      select from pg_publication_rel r
      where r.prpubid = p.oid and r.prrelid = to_regclass(%L)))', p.pubname, (pair).v2_table),
      case when (p.pubupdate or p.pubdelete)
          and not crossfade_private.has_replica_identity(t.v2)
        then crossfade_private.replica_identity_command(t.v2, (pair).v2_key_columns) || E';\n'
        else '' end || n.command, p.pubname) end)
  from pg_catalog.pg_publication p
  cross join lateral (
    select ((pair).v1_table)::regclass, ((pair).v2_table)::regclass
  ) t(v1, v2)
  cross join lateral (
    select format('alter publication %I add table %s', p.pubname, (pair).v2_table)
  ) n(command)
  left join pg_catalog.pg_publication_rel r on r.prpubid = p.oid and r.prrelid = t.v1
  cross join lateral (
    select case when r.prqual is not null or r.prattrs is not null
      then 'it sends only some rows or columns of version 1' end
  ) w(reason)
  where p.oid = id;
$$;

comment on function crossfade_private.hand_over_publication is
  'How a publication comes to send V2 as well: {"reason": why it does not, "sql", "shown"}.';

create or replace function crossfade_private.hand_over_default(
  id oid, command text, pair crossfade.pairs
)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object('shown', command, 'sql', crossfade_private.guarded(format('exists (
    select from pg_attrdef e
    join pg_attribute a on a.attrelid = e.adrelid and a.attnum = e.adnum
    join pg_depend u on u.classid = ''pg_attrdef''::regclass and u.objid = e.oid
    join pg_depend o on o.classid = ''pg_class''::regclass and o.objid = u.refobjid
    where u.refclassid = ''pg_class''::regclass and o.refclassid = ''pg_class''::regclass
      and o.deptype in (''a'', ''i'') and o.refobjid = to_regclass(%L)
      and e.adrelid = to_regclass(%L) and a.attname = %L)', (pair).v1_table,
    e.adrelid::regclass, a.attname), rtrim(command, ';'),
    format('%s.%I', e.adrelid::regclass, a.attname)))
  from pg_catalog.pg_attrdef e
  join pg_catalog.pg_attribute a on a.attrelid = e.adrelid and a.attnum = e.adnum
  where e.oid = id;
$$;

comment on function crossfade_private.hand_over_default is
  'How a default comes to need no sequence of V1''s: {"sql", "shown"}.';

create or replace function crossfade_private.hand_over_object(
  kind text, id oid, command text, unlike text[], pair crossfade.pairs
)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_1 constant regclass := (pair).v1_table;
  v_class constant regclass := case kind when 'policy' then 'pg_policy'
    when 'function' then 'pg_proc' else 'pg_rewrite' end;
  v_columns text[] := '{}'::text[];
  -- A view may have more rules than the one that makes it a view.
  v_kind constant text := case when kind = 'view' and exists (
    select from pg_catalog.pg_rewrite r where r.oid = id and r.ev_type <> '1')
    then 'rule' else kind end;
  v_unlike text[];
  v_reason text;
  v_text text;
begin
  if kind in ('view', 'materialized view', 'rule', 'policy', 'function') then
    v_columns := crossfade_private.read_columns(v_class, id, v_1);
    v_text := lower((
      select p.prosrc from pg_catalog.pg_proc p
      where kind = 'function' and p.oid = id and p.prosqlbody is null));
    -- Of a text nobody knows what it reads; a word of it that is a column's name may be one.
    v_unlike := array(
      select c from unnest(unlike) c
      where c = any (v_columns) or v_text ~ format('(?<!\w)%s(?!\w)',
        regexp_replace(lower(c), '([^\w\s])', '\\\1', 'g'))
      order by c);
    if cardinality(v_unlike) > 0 or v_columns && array(
      select a.attname::text from pg_catalog.pg_attribute a where a.attrelid = v_1 and a.attnum < 0)
    then
      v_reason := 'it reads columns that version 2 does not have as they are';
    end if;
  end if;
  return jsonb_build_object('columns', coalesce(v_unlike, '{}')) || jsonb_strip_nulls(case v_kind
    when 'foreign key' then crossfade_private.hand_over_key(id, pair)
    when 'view' then crossfade_private.hand_over_view(id, v_columns, v_reason, pair)
    when 'materialized view' then crossfade_private.hand_over_view(id, v_columns, v_reason, pair)
    when 'function' then crossfade_private.hand_over_function(id, v_columns, v_reason, pair)
    when 'policy' then crossfade_private.hand_over_policy(id, v_columns, v_reason, pair)
    when 'publication' then crossfade_private.hand_over_publication(id, pair)
    when 'default' then crossfade_private.hand_over_default(id, command, pair)
    when 'rule' then jsonb_build_object('reason', coalesce(v_reason,
      'a rule may write version 1'), 'shown', pg_get_ruledef(id))
    when 'trigger' then jsonb_build_object('reason', 'it is settled with the function it calls')
    -- A command often holds a key of the project: it belongs into no file and on no screen.
    when 'cron job' then jsonb_build_object('shown', command,
      'reason', 'its command is a text; see it, then change it with cron.alter_job')
    end);
end $$;

comment on function crossfade_private.hand_over_object is
  'How an object that depends on V1 comes to depend on V2: {"columns": those it reads that V2 does not have as they are, "reason": why nothing is done, "sql", "check_sql": to be run in a later transaction, "shown", "note"}.';

create or replace function crossfade_private.handover_items(pair crossfade.pairs)
returns table (item jsonb)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_copied constant text[] := crossfade_private.copied_columns(pair);
  v_unlike constant text[] := array(
    select a.attname::text from pg_catalog.pg_attribute a
    where a.attrelid = ((pair).v1_table)::regclass and a.attnum > 0 and not a.attisdropped
      and a.attname::text <> all (v_copied));
  v_found record;
  v_done jsonb;
begin
  for v_found in select d.* from crossfade_private.v1_dependents(pair) d loop
    v_done := crossfade_private.hand_over_object(
      v_found.kind, v_found.id, v_found.command, v_unlike, pair);
    if v_found.is_ignored then
      v_done := v_done - '{sql,check_sql}'::text[] || '{"reason": "it is ignored"}';
    elsif v_done ? 'sql' and not pg_has_role(v_found.owner, 'usage') then
      v_done := v_done - '{sql,check_sql}'::text[] || jsonb_build_object('reason',
        format('it belongs to %s, and %s may not act as that role', v_found.owner, current_user));
    end if;
    item := jsonb_build_object('kind', v_found.kind, 'object', v_found.object,
      'owner', v_found.owner, 'breaks', v_found.breaks, 'is_ignored', v_found.is_ignored)
      || v_done;
    return next;
  end loop;
end $$;

comment on function crossfade_private.handover_items is
  'What depends on a pair''s V1, and what becomes of it: v1_dependents with hand_over_object.';

create or replace function crossfade_private.handover_block(item jsonb, part text)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select concat_ws(E'\n',
    crossfade_private.commented(format('%s %s (owner %s) %s', item ->> 'kind', item ->> 'object',
      item ->> 'owner', item ->> 'breaks')),
    crossfade_private.commented(item ->> 'note'),
    case when not item ? part then concat_ws(E'\n',
      crossfade_private.commented(format('TODO: not re-pointed, because %s', item ->> 'reason')),
      crossfade_private.commented('TODO: columns to find in version 2: ' || (
        select string_agg(quote_ident(c), ', ')
        from jsonb_array_elements_text(item -> 'columns') c)),
      crossfade_private.commented(item ->> 'shown')) end,
    item ->> part);
$$;

comment on function crossfade_private.handover_block is
  'What the migration says of one object: its statement, or as comments why there is none.';

create or replace function crossfade_private.handover_file(head text, body text)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  -- What is printed, and compared with what was printed, hangs on these.
  select crossfade_private.commented(head) || E'\n\n'
    || string_agg(format('set %s = %s;', s.name, s.value), E'\n' order by s.n) || E'\n\n'
    || body || E'\n\n'
    || string_agg(format('reset %s;', s.name), E'\n' order by s.n) || E'\n'
  from (values
    (1, 'search_path', 'pg_catalog, pg_temp'), (2, 'lock_timeout', '''2s'''),
    (3, 'quote_all_identifiers', 'off'), (4, 'timezone', '''UTC'''),
    (5, 'datestyle', '''ISO, MDY'''), (6, 'intervalstyle', '''postgres'''),
    (7, 'extra_float_digits', '1'), (8, 'bytea_output', '''hex''')) s(n, name, value);
$$;

comment on function crossfade_private.handover_file is
  'Statements with the settings that they need, and what is to be known of them; null without any.';

create or replace function crossfade.handover_plan(pair text)
returns jsonb
language plpgsql volatile -- what it offers is proved on temporary objects
security definer -- reads the catalog as the owner; only service_role may call it
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set datestyle = 'ISO, MDY'
set intervalstyle = 'postgres'
set extra_float_digits = 1
set bytea_output = 'hex'
set quote_all_identifiers = off
set standard_conforming_strings = on
set check_function_bodies = on
as $$
declare
  v_pair crossfade.pairs := crossfade_private.get_pair(pair);
  v_items jsonb := (
    select coalesce(jsonb_agg(i.item), '[]') from crossfade_private.handover_items(v_pair) i);
  v_sql text;
  v_check text;
begin
  select string_agg(crossfade_private.handover_block(i, 'sql'), E'\n\n' order by n),
    string_agg(crossfade_private.handover_block(i, 'check_sql'), E'\n\n' order by n)
      filter (where i ? 'check_sql')
  into v_sql, v_check
  from jsonb_array_elements(v_items) with ordinality u(i, n);
  return jsonb_build_object(
    'pair', v_pair.name, 'stage', v_pair.stage, 'v1_table', v_pair.v1_table,
    'v2_table', v_pair.v2_table,
    'objects', (
      select coalesce(jsonb_agg(i - '{sql,check_sql,shown,note}'::text[]
        || jsonb_build_object('is_repointed', i ? 'sql') order by n), '[]')
      from jsonb_array_elements(v_items) with ordinality u(i, n)),
    'sql', crossfade_private.handover_file(format(
      'Hand-over of pair %s: what depended on %s depends on %s afterwards.
Written by: crossfade handover plan %1$s
Each statement looks first whether its object is still as it was, and does nothing the second time.
What stands in comments was not provably right: decide it, then write it.', v_pair.name,
      v_pair.v1_table, v_pair.v2_table),
      format(E'do %s;\n\n', crossfade_private.dollar_quoted(format(
        'begin
  if to_regclass(''crossfade.pairs'') is not null then
    if exists (
      select from crossfade.pairs p
      where p.name = %L and p.stage in (''off'', ''dualwrite'', ''shadow''))
      and exists (select from %s)
    then
      raise exception ''pair %% is not in stage live yet'', %1$L
        using hint = ''Until then version 2 may be empty or behind.'';
    end if;
  end if;
end', v_pair.name, v_pair.v1_table))) || v_sql),
    'check_sql', crossfade_private.handover_file(format(
      'Hand-over of pair %s: the rows there are, checked by the foreign keys that point to %s now.
In a transaction of its own, after the other one: writers do not wait for it.', v_pair.name,
      v_pair.v2_table), v_check));
end $$;

comment on function crossfade.handover_plan is
  'What depends on V1, and the migration that lets it depend on V2: {"pair", "stage", "v1_table", "v2_table", "objects": [{"kind", "object", "owner", "breaks", "is_ignored", "is_repointed", "reason": why not, "columns": those it reads that V2 does not have as they are}], "sql", "check_sql": for a transaction after that one; both null when there is nothing to do}. Changes nothing. CF001.';

-- pairs/warnings.sql ------------------------------------------------------------------------------

-- What the owner of a pair should know, and what a registration would say.

create or replace function crossfade_private.parent_warnings(pair crossfade.pairs)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format('foreign key "%s" of %s points to %s%s', c.conname, c.conrelid::regclass,
    c.confrelid::regclass, coalesce(
      (select format(', which belongs to pair "%s": that pair comes first at every stage', q.name)
        from crossfade.pairs q
        where c.confrelid in (to_regclass(q.v1_table), to_regclass(q.v2_table))),
      ': register that table''s own pair first, if it has one'))
  from pg_catalog.pg_constraint c
  where c.contype = 'f' and c.confrelid <> c.conrelid
    and (c.conrelid = ((pair).v2_table)::regclass
      or c.conrelid = ((pair).v1_table)::regclass and exists (
        select from crossfade.pairs q
        where c.confrelid in (to_regclass(q.v1_table), to_regclass(q.v2_table))))
  union all
  -- What happens to one table when a parent goes, the mirror does to the other one as well.
  select format(
    'deleting from %s does %s to %s and %s to %s: whichever comes first is mirrored to the other one',
    a.confrelid::regclass, d.words[1], a.conrelid::regclass, d.words[2], b.conrelid::regclass)
  from pg_catalog.pg_constraint a
  join pg_catalog.pg_constraint b on b.confrelid = a.confrelid and b.contype = 'f'
    and b.conrelid = ((pair).v2_table)::regclass
  cross join lateral (
    select array(select case k when 'a' then 'nothing' when 'r' then 'nothing'
      when 'c' then 'delete' when 'n' then 'set null' else 'set default' end
    from unnest(array[a.confdeltype, b.confdeltype]) with ordinality u(k, n) order by n) as words
  ) d
  where a.contype = 'f' and a.conrelid = ((pair).v1_table)::regclass
    and a.confkey = b.confkey and d.words[1] <> d.words[2]
  union all
  select format(
    'changing the key of %s is carried on to %s and not to %s, whose rows keep it from changing: give both foreign keys ON UPDATE CASCADE',
    a.confrelid::regclass, v.follows::regclass, v.stays::regclass)
  from pg_catalog.pg_constraint a
  join pg_catalog.pg_constraint b on b.contype = 'f' and b.conrelid = ((pair).v2_table)::regclass
    and (a.confrelid = b.confrelid or exists (
      select from crossfade.pairs q where a.confrelid = to_regclass(q.v1_table)
        and b.confrelid = to_regclass(q.v2_table)))
  cross join lateral (values (a.conrelid, a.confupdtype, b.conrelid, b.confupdtype),
    (b.conrelid, b.confupdtype, a.conrelid, a.confupdtype)) v(follows, does, stays, other_does)
  where a.contype = 'f' and a.conrelid = ((pair).v1_table)::regclass and a.confkey = b.confkey
    and v.does in ('c', 'n', 'd') and v.other_does in ('a', 'r');
$$;

comment on function crossfade_private.parent_warnings is
  'Parents of the two tables that have pairs of their own, and what deleting a parent does to one table only.';

create or replace function crossfade_private.pair_warnings(pair crossfade.pairs)
returns jsonb
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_agg(w), '[]') from (
    select crossfade_private.parent_warnings(pair) w
    union all
    select crossfade_private.sequence_warnings(pair)
    union all
    select crossfade_private.publication_warnings(pair)
    union all
    select crossfade_private.publication_problems(pair)
    union all
    select crossfade_private.write_policy_warnings(pair)
    union all
    select format('trigger "%s" on %s runs for mirrored rows as well', g.tgname,
      g.tgrelid::regclass)
    from pg_catalog.pg_trigger g join pg_catalog.pg_proc f on f.oid = g.tgfoid
    where g.tgrelid in (((pair).v1_table)::regclass, ((pair).v2_table)::regclass)
      and not g.tgisinternal and f.pronamespace <> 'crossfade_private'::regnamespace
    union all
    select format(
      'trigger "%s" on %s runs before its row is there and names %s: if it writes the row there by hand, each insert fails from dualwrite on. Drop it (the mirror writes that row) or make it an AFTER trigger',
      g.tgname, g.tgrelid::regclass, t.other)
    from (values (((pair).v1_table)::regclass, ((pair).v2_table)::regclass),
      (((pair).v2_table)::regclass, ((pair).v1_table)::regclass)) t(tab, other)
    join pg_catalog.pg_trigger g on g.tgrelid = t.tab and not g.tgisinternal
      and g.tgtype::integer & 7 = 7 -- BEFORE INSERT ROW
    join pg_catalog.pg_proc f on f.oid = g.tgfoid
      and f.pronamespace <> 'crossfade_private'::regnamespace
      and f.prosrc ~* crossfade_private.name_pattern(t.other)
    union all
    select format('converter %s is called for every row, which is slower: %s', c.converter,
      q.pieces ->> 'called')
    from (values (1, (pair).to_v2), (2, (pair).to_v1)) c(side, converter)
    join crossfade_private.pair_pieces q on q.pair = (pair_warnings.pair).name and q.side = c.side
    where q.pieces ->> 'called' is not null
  ) q;
$$;

comment on function crossfade_private.pair_warnings is
  'What an owner should know about a pair that is not a reason to refuse it. Locks both tables ACCESS SHARE.';

create or replace function crossfade.judge_pair(
  name text, v1 text default null, v2 text default null, to_v2 text default null,
  to_v1 text default null, key text[] default null, options jsonb default '{}'
)
returns jsonb
language plpgsql volatile
security definer -- reads the catalog as the mirror's owner would; only service_role may call it
set search_path = pg_catalog, pg_temp
as $$
declare
  v_row crossfade.pairs;
  v_problems jsonb;
begin
  if v1 is null then
    v_row := crossfade_private.get_pair(name);
  else
    v_row := crossfade_private.pair_row(name, v1, coalesce(v2, v1), to_v2, to_v1, key, options);
  end if;
  if v1 is not null and v2 is null then
    -- A V2 that is yet to be made is made like V1.
    select jsonb_agg(p) into v_problems
    from crossfade_private.table_problems(v_row.v1_table::regclass, 'V1', v_row.key_columns) p;
  else
    select jsonb_agg(p) into v_problems from crossfade_private.registration_problems(v_row) p;
  end if;
  return jsonb_build_object('pair', name, 'problems', coalesce(v_problems, '[]'), 'warnings',
    case when v_problems is null and v_row.v1_table <> v_row.v2_table and v_row.to_v2 is not null
      then crossfade_private.pair_warnings(v_row) else '[]' end,
    'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.judge_pair is
  'What register_pair would say, without registering: {"pair", "problems": what it would refuse, "warnings", "flags_version"}. With a name alone, of the registered pair as its tables are now. Without v2 only V1 is judged, without converters only the tables. Changes nothing. CF001, CF008 a table that does not exist, CF012.';

-- pairs/catalog.sql -------------------------------------------------------------------------------

-- What the catalog says about a table, for those who write a pair for it.

create or replace function crossfade_private.find_table(name text)
returns regclass
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_schema text := case when name like '%.%' then split_part(name, '.', 1) else 'public' end;
  v_table text := case when name like '%.%' then split_part(name, '.', 2) else name end;
  v_found regclass;
begin
  select c.oid::regclass into v_found
  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where n.nspname = v_schema and c.relname = v_table and c.relkind in ('r', 'p', 'v', 'm', 'f');
  if v_found is null then
    -- As SQL writes it, with quotes where they are needed.
    begin
      select c.oid::regclass into v_found from pg_catalog.pg_class c
      where c.oid = to_regclass(name) and c.relkind in ('r', 'p', 'v', 'm', 'f');
    exception when invalid_name or syntax_error or feature_not_supported then
      null; -- It is no name in SQL.
    end;
  end if;
  if v_found is null then
    perform crossfade_private.fail(404, 'CF012',
      format('Table "%s.%s" does not exist', v_schema, v_table),
      jsonb_build_object('table', name, 'known', (
        select coalesce(jsonb_agg(k.t order by k.t), '[]') from (
          select format('%s.%s', n.nspname, c.relname) t
          from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
          where n.nspname = v_schema and c.relkind = 'r' limit 50) k)),
      coalesce(format('There are: %s', (
        select string_agg(k.t, ', ' order by k.t) from (
          select format('%s.%s', n.nspname, c.relname) t
          from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
          where n.nspname = v_schema and c.relkind = 'r' order by 1 limit 10) k)),
        'Write the name with its schema, for example public.messages.'));
  end if;
  return v_found;
end $$;

comment on function crossfade_private.find_table is
  'The table of a name, with schema or in public, without quotes or as SQL writes it; CF012 with the names there are.';

create or replace function crossfade_private.table_columns(tab regclass)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_agg(jsonb_build_object(
    'name', a.attname, 'type', format_type(a.atttypid, a.atttypmod),
    'base_type', format_type(case when y.typtype = 'd' then y.typbasetype else y.oid end, null),
    'not_null', a.attnotnull,
    'default', case when a.attgenerated = '' then pg_get_expr(d.adbin, d.adrelid) end,
    'generated', case when a.attgenerated <> '' then pg_get_expr(d.adbin, d.adrelid) end,
    'identity', a.attidentity <> '',
    'sequence', crossfade_private.default_sequence(tab, a.attname::text)::text,
    'labels', (select coalesce(jsonb_agg(e.enumlabel order by e.enumsortorder), '[]')
      from pg_catalog.pg_enum e where e.enumtypid = y.oid),
    'checked', exists (
      select from pg_catalog.pg_constraint o
      where o.conrelid = tab and o.contype in ('c', 'f') and a.attnum = any (o.conkey)),
    'comment', col_description(tab, a.attnum)) order by a.attnum), '[]')
  from pg_catalog.pg_attribute a
  join pg_catalog.pg_type y on y.oid = a.atttypid
  left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
  where a.attrelid = tab and a.attnum > 0 and not a.attisdropped;
$$;

comment on function crossfade_private.table_columns is
  'The columns of a table in their order.';

create or replace function crossfade_private.table_hindrances(tab regclass)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'triggers', (
      select coalesce(jsonb_agg(jsonb_build_object('name', g.tgname,
        'definition', pg_get_triggerdef(g.oid), 'enabled', g.tgenabled <> 'D') order by g.tgname),
        '[]')
      from pg_catalog.pg_trigger g join pg_catalog.pg_proc p on p.oid = g.tgfoid
      where g.tgrelid = tab and not g.tgisinternal
        and p.pronamespace <> 'crossfade_private'::regnamespace),
    'policies', (
      select coalesce(jsonb_agg(jsonb_build_object('name', l.polname, 'command', l.polcmd,
        'permissive', l.polpermissive, 'roles', (
          select jsonb_agg(case when r = 0 then 'public' else r::regrole::text end)
          from unnest(l.polroles) r),
        'using', pg_get_expr(l.polqual, l.polrelid),
        'check', pg_get_expr(l.polwithcheck, l.polrelid)) order by l.polname), '[]')
      from pg_catalog.pg_policy l where l.polrelid = tab),
    'constraints', (
      select coalesce(jsonb_agg(jsonb_build_object('name', o.conname, 'kind', o.contype,
        'definition', pg_get_constraintdef(o.oid), 'columns', (
          select coalesce(jsonb_agg(a.attname order by a.attnum), '[]')
          from pg_catalog.pg_attribute a
          where a.attrelid = tab and a.attnum = any (o.conkey))) order by o.conname), '[]')
      from pg_catalog.pg_constraint o where o.conrelid = tab and o.contype <> 'n'),
    'referenced_by', (
      select coalesce(jsonb_agg(format('%s (%s)', o.conrelid::regclass, o.conname)
        order by o.conname), '[]')
      from pg_catalog.pg_constraint o where o.confrelid = tab and o.contype = 'f'),
    'indexes', (
      select coalesce(jsonb_agg(pg_get_indexdef(i.indexrelid)
        order by i.indexrelid::regclass::text), '[]')
      from pg_catalog.pg_index i where i.indrelid = tab),
    'grants', (
      select coalesce(jsonb_object_agg(g.role, g.rights), '{}') from (
        select a.grantee::regrole::text as role,
          jsonb_agg(lower(a.privilege_type) order by a.privilege_type) as rights
        from pg_catalog.pg_class c
        cross join lateral pg_catalog.aclexplode(c.relacl) a
        where c.oid = tab and a.grantee <> c.relowner and a.grantee <> 0
        group by a.grantee) g),
    'publications', (
      select coalesce(jsonb_agg(p.pubname order by p.pubname), '[]')
      from pg_catalog.pg_publication p
      where p.puballtables or exists (
        select from pg_catalog.pg_publication_rel r where r.prpubid = p.oid and r.prrelid = tab)));
$$;

comment on function crossfade_private.table_hindrances is
  'What takes part in every write to a table, or decides who sees it; without crossfade''s triggers.';

create or replace function crossfade_private.table_keys(tab regclass)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- The conditions that table_problems has for a key.
  select coalesce(jsonb_agg(distinct k.names), '[]')
  from pg_catalog.pg_index i
  join pg_catalog.pg_class c on c.oid = i.indexrelid
  join pg_catalog.pg_am m on m.oid = c.relam and m.amname = 'btree'
  cross join lateral (
    select jsonb_agg(a.attname order by u.n) as names, bool_and(a.attnotnull) as is_there
    from unnest(i.indkey[0:i.indnkeyatts - 1]) with ordinality u(attnum, n)
    left join pg_catalog.pg_attribute a on a.attrelid = tab and a.attnum = u.attnum
  ) k
  where i.indrelid = tab and i.indisunique and i.indimmediate and i.indisvalid
    and i.indpred is null and i.indexprs is null and not i.indisexclusion and k.is_there;
$$;

comment on function crossfade_private.table_keys is
  'Lists of columns that a pair could be keyed by.';

create or replace function crossfade_private.table_parents(tab regclass)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_agg(jsonb_build_object('columns', k.own, 'parent_columns', k.parents,
      'reference', format('REFERENCES %s(%s)', o.confrelid::regclass, k.written),
      'table', o.confrelid::regclass::text, 'pair', (
        select jsonb_build_object('name', p.name, 'v1_table', p.v1_table, 'v2_table', p.v2_table,
          'key', p.key_columns, 'v2_key', p.v2_key_columns, 'v2_key_types', (
            select jsonb_agg(format_type(a.atttypid, a.atttypmod) order by u.n)
            from unnest(p.v2_key_columns) with ordinality u(name, n)
            join pg_catalog.pg_attribute a
              on a.attrelid = to_regclass(p.v2_table) and a.attname = u.name),
          'v2_columns', (
            select jsonb_agg(a.attname order by a.attnum) from pg_catalog.pg_attribute a
            where a.attrelid = to_regclass(p.v2_table) and a.attnum > 0 and not a.attisdropped))
        from crossfade.pairs p
        where o.confrelid in (to_regclass(p.v1_table), to_regclass(p.v2_table)) limit 1))
    order by o.conname), '[]')
  from pg_catalog.pg_constraint o
  cross join lateral (
    select jsonb_agg(a.attname order by u.n) as own, jsonb_agg(b.attname order by u.n) as parents,
      string_agg(quote_ident(b.attname), ', ' order by u.n) as written
    from unnest(o.conkey, o.confkey) with ordinality u(own, parent, n)
    join pg_catalog.pg_attribute a on a.attrelid = o.conrelid and a.attnum = u.own
    join pg_catalog.pg_attribute b on b.attrelid = o.confrelid and b.attnum = u.parent
  ) k
  where o.conrelid = tab and o.contype = 'f' and o.conparentid = 0;
$$;

comment on function crossfade_private.table_parents is
  'What the foreign keys of a table point to, and the pair of that table, if it has one.';

create or replace function crossfade_private.table_size(tab regclass)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object('rows', greatest(c.reltuples, 0)::bigint,
    'analyzed', c.reltuples >= 0,
    'bytes', pg_table_size(tab), 'index_bytes', pg_indexes_size(tab))
  from pg_catalog.pg_class c where c.oid = tab;
$$;

comment on function crossfade_private.table_size is
  'Bytes of a table and its indexes, and the planner''s estimate of its rows.';

create or replace function crossfade.describe_table(name text, sample_rows integer default 0)
returns jsonb
language plpgsql stable
security definer -- reads the catalog and, where service_role may, some rows; only it may call this
set search_path = pg_catalog, pg_temp
as $$
declare
  v_table regclass := crossfade_private.find_table(name);
  v_key text[] := crossfade_private.primary_key(v_table);
  v_sample jsonb := '[]'::jsonb;
begin
  if sample_rows not between 0 and 100 then
    perform crossfade_private.fail(400, 'CF012', format('Invalid sample_rows %s', sample_rows),
      jsonb_build_object('sample_rows', sample_rows), 'It is 0 to 100.');
  end if;
  if sample_rows > 0 and pg_catalog.has_table_privilege('service_role', v_table, 'select') then
    execute format('select coalesce(jsonb_agg(to_jsonb(x)), ''[]'') from (
        select s.* from %s s order by %s limit $1) x', v_table,
      coalesce((select string_agg(format('s.%I', k), ', ') from unnest(v_key) k), '1'))
    into v_sample using sample_rows;
  end if;
  return (
    select jsonb_build_object(
      'table', format('%I.%I', n.nspname, c.relname), 'schema', n.nspname, 'name', c.relname,
      'key', coalesce(to_jsonb(v_key), '[]'), 'keys', crossfade_private.table_keys(v_table),
      'parents', crossfade_private.table_parents(v_table),
      'columns', crossfade_private.table_columns(v_table),
      'row_security', c.relrowsecurity, 'comment', obj_description(v_table, 'pg_class'),
      'problems', (
        select coalesce(jsonb_agg(p), '[]')
        from crossfade_private.table_problems(v_table, 'table', coalesce(v_key, '{}')) p),
      'pair', (select p.name from crossfade.pairs p
        where v_table in (to_regclass(p.v1_table), to_regclass(p.v2_table)) limit 1),
      'sample', v_sample)
      || crossfade_private.table_hindrances(v_table) || crossfade_private.table_size(v_table)
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where c.oid = v_table);
end $$;

comment on function crossfade.describe_table is
  'What the catalog says about a table: columns, its key and others it could have ("keys"), what it refers to ("parents"), constraints, indexes, triggers, policies, sizes, what would keep it from being mirrored ("problems"), and up to sample_rows (0 to 100) rows by key. Reads only. CF012 unknown table.';

-- pairs/carry.sql ---------------------------------------------------------------------------------

-- A key of another type is carried: V1 gets a uuid column beside its key, without a rewrite and
-- without a long lock. What has been done the catalog says; only how far the rows are filled is
-- kept, in crossfade_private.key_fills.

create or replace function crossfade_private.key_indexes(tab regclass, key_columns text[])
returns table (id regclass, is_valid boolean)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select i.indexrelid::regclass, i.indisvalid
  from pg_catalog.pg_index i
  join pg_catalog.pg_class c on c.oid = i.indexrelid
  join pg_catalog.pg_am m on m.oid = c.relam and m.amname = 'btree'
  where i.indrelid = tab and i.indisunique and i.indimmediate and i.indpred is null
    and i.indexprs is null and not i.indisexclusion
    and (
      select array_agg(a.attname::text order by a.attname)
      from pg_catalog.pg_attribute a
      where a.attrelid = tab and a.attnum = any (i.indkey[0:i.indnkeyatts - 1]))
    = (select array_agg(k order by k) from unnest(key_columns) k);
$$;

comment on function crossfade_private.key_indexes is
  'Immediate unique indexes on exactly these columns; one that is not valid was left behind, or is being built.';

create or replace function crossfade_private.is_never_null(tab regclass, column_name text)
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- PostgreSQL 18 sets attnotnull for a constraint that nobody has validated, too.
  select a.attnotnull and not exists (
    select from pg_catalog.pg_constraint o
    where o.conrelid = tab and o.contype = 'n' and o.conkey = array[a.attnum]
      and not o.convalidated)
  from pg_catalog.pg_attribute a
  where a.attrelid = tab and a.attname = column_name and a.attnum > 0;
$$;

comment on function crossfade_private.is_never_null is
  'Whether PostgreSQL knows that no row has null there; null without such a column.';

create or replace function crossfade_private.fill_triggers(tab regclass, column_name text)
returns table (name text, sql text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- The definition with a condition, where it can have one and has none.
  select g.tgname::text, case when g.tgtype & 1 = 1 and g.tgqual is null and not g.tgisinternal
      and g.tgconstraint = 0 and g.tgtype & 12 = 0
    then regexp_replace(
      regexp_replace(pg_get_triggerdef(g.oid), '^CREATE TRIGGER', 'create or replace trigger'),
      '( FOR EACH ROW)( EXECUTE FUNCTION [^'']*\()',
      format('\1 when (new.%1$I is not distinct from old.%1$I)\2', column_name)) end
  from pg_catalog.pg_trigger g
  join pg_catalog.pg_proc p on p.oid = g.tgfoid
  left join pg_catalog.pg_attribute a
    on a.attrelid = tab and a.attname = fill_triggers.column_name and a.attnum > 0
  where g.tgrelid = tab and not g.tgisinternal and g.tgtype & 16 = 16 and g.tgenabled in ('O', 'A')
    and p.pronamespace <> 'crossfade_private'::regnamespace
    and (cardinality(g.tgattr::smallint[]) = 0 or a.attnum = any (g.tgattr::smallint[]))
    -- One whose condition asks for the column has been told what to do.
    and not (g.tgqual is not null and cardinality(g.tgattr::smallint[]) = 0 and exists (
      select from pg_catalog.pg_depend d
      where d.classid = 'pg_trigger'::regclass and d.objid = g.oid
        and d.refclassid = 'pg_class'::regclass and d.refobjid = tab
        and d.refobjsubid = a.attnum))
  order by g.tgname;
$$;

comment on function crossfade_private.fill_triggers is
  'The owner''s triggers that filling a column would fire, and a statement that keeps them from it (null where there is none: several events, a condition, one for each statement).';

create or replace function crossfade_private.carry_problems(tab regclass, column_name text)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with k as (select coalesce(crossfade_private.primary_key(tab), '{}') as names),
  a as (
    select a.* from pg_catalog.pg_attribute a
    where a.attrelid = tab and a.attname = column_name and a.attnum > 0 and not a.attisdropped
  )
  select crossfade_private.table_problems(tab, 'table', k.names) from k
  union all
  select format('"%s" is no name for a column', column_name)
  where coalesce(column_name, '') = '' or octet_length(column_name) > 63
    or left(column_name, 3) = 'cf_'
  union all
  select format('table %s: its key "%s" is a uuid already; there is nothing to carry', tab,
    k.names[1])
  from k
  cross join lateral (
    select crossfade_private.base_type(b.atttypid) as id from pg_catalog.pg_attribute b
    where b.attrelid = tab and b.attname = k.names[1]) t
  where cardinality(k.names) = 1 and t.id = 'uuid'::regtype
  union all
  select format('table %s: column "%s" is there and is %s, not uuid; take another name: --column',
    tab, column_name, format_type(a.atttypid, a.atttypmod))
  from a where a.atttypid <> 'uuid'::regtype
  union all
  select format(
    'table %s: column "%s" is generated from other columns; take another name: --column', tab,
    column_name)
  from a where a.attgenerated <> ''
  union all
  select format(
    'table %s belongs to pair "%s", whose converters do not know the column: remove the pair first (crossfade pair remove %s)',
    tab, p.name, p.name)
  from crossfade.pairs p
  where tab in (to_regclass(p.v1_table), to_regclass(p.v2_table)) and not exists (select from a)
  union all
  select format(
    'table %s has no replica identity, and publication %s wants one for every update; run: alter table %1$s replica identity default',
    tab, string_agg(quote_ident(p.pubname), ', ' order by p.pubname))
  from pg_catalog.pg_class c
  join pg_catalog.pg_publication p on p.pubupdate and (p.puballtables or exists (
      select from pg_catalog.pg_publication_tables t
      where t.pubname = p.pubname
        and format('%I.%I', t.schemaname, t.tablename)::regclass = tab))
  where c.oid = tab and (c.relreplident = 'n' or c.relreplident = 'i' and not exists (
      select from pg_catalog.pg_index i where i.indrelid = tab and i.indisreplident))
  having count(*) > 0;
$$;

comment on function crossfade_private.carry_problems is
  'What keeps a table from carrying a uuid column as a key, one sentence a row.';

create or replace function crossfade_private.carry_notes(tab regclass, column_name text)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format(
    '`select *` of %s shows the column "%s", also to its clients; what stores such rows elsewhere meets a column more',
    tab, column_name)
  union all
  select
    'a client that read a row before it was filled and writes it back whole writes null there: before the last step that is filled again, after it it is refused (23502)'
  union all
  select format('publication %s sends every row that is filled to its readers (Realtime, replicas)',
    quote_ident(t.pubname))
  from pg_catalog.pg_publication_tables t
  where format('%I.%I', t.schemaname, t.tablename)::regclass = tab
  union all
  select format(
    '%s may read single columns of %s only; grant select (%I) to whoever reads with `select *`',
    string_agg(distinct g.grantee::regrole::text, ', '), tab, column_name)
  from pg_catalog.pg_attribute a
  cross join lateral pg_catalog.aclexplode(a.attacl) g
  where a.attrelid = tab and a.attnum > 0 and g.privilege_type = 'SELECT' and g.grantee <> 0
    and not has_table_privilege(g.grantee, tab, 'select')
  having count(*) > 0;
$$;

comment on function crossfade_private.carry_notes is
  'What an owner should know before a table gets a column that carries a key, one sentence a row.';

create or replace function crossfade_private.is_filled(tab regclass, column_name text)
returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_null boolean;
begin
  if crossfade_private.is_never_null(tab, column_name) then
    return true;
  end if;
  -- An index finds what is null at once; without one this would read the whole table.
  if exists (
    select from crossfade_private.key_indexes(tab, array[column_name]) i where i.is_valid
  ) then
    execute format('select exists (select from %s t where t.%I is null)', tab, column_name)
    into v_null;
    return not v_null;
  end if;
  return coalesce((
    select f.done from crossfade_private.key_fills f
    where f.table_name = tab::text and f.column_name = is_filled.column_name), false);
end $$;

comment on function crossfade_private.is_filled is
  'Whether every row has a value there: by the constraint, else by the index, else because the fill came to its end.';

create or replace function crossfade_private.carry_state(tab regclass, column_name text)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'column', a.attnum is not null,
    'default', a.attnum is not null and a.atthasdef,
    'filled', a.attnum is not null and a.atthasdef
      and crossfade_private.is_filled(tab, column_name),
    'index', coalesce(bool_or(i.is_valid), false),
    'broken', (
      select min(b.id::text) from crossfade_private.key_indexes(tab, array[column_name]) b
      where not b.is_valid and not exists (
        select from pg_catalog.pg_stat_progress_create_index g where g.index_relid = b.id)),
    'building', (
      select format('%s: %s, %s of %s blocks', g.index_relid::regclass, g.phase, g.blocks_done,
        g.blocks_total)
      from pg_catalog.pg_stat_progress_create_index g
      join crossfade_private.key_indexes(tab, array[column_name]) b on b.id = g.index_relid
      where not b.is_valid limit 1),
    'check', (
      select case when o.convalidated then 'valid' else 'not valid' end
      from pg_catalog.pg_constraint o
      where o.conrelid = tab and o.contype = 'c' and o.conkey = array[a.attnum]
        and pg_get_expr(o.conbin, tab) = format('(%I IS NOT NULL)', column_name)
      order by o.convalidated desc limit 1),
    'not_null', coalesce(crossfade_private.is_never_null(tab, column_name), false))
  from (values (1)) one(n)
  left join pg_catalog.pg_attribute a
    on a.attrelid = tab and a.attname = carry_state.column_name and a.attnum > 0
  left join lateral crossfade_private.key_indexes(tab, array[carry_state.column_name]) i on true
  group by a.attnum, a.atthasdef;
$$;

comment on function crossfade_private.carry_state is
  'How far the catalog says a table has come with carrying a key: {"column", "default", "filled", "index", "broken": an index that was left behind, "building", "check": valid or not valid, "not_null"}.';

-- pairs/carry_plan.sql ----------------------------------------------------------------------------

-- The steps by which a table comes to carry a key, and the files of those that are its owner's.

create or replace function crossfade_private.carry_file(head text, body text)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  -- One statement: its lock_timeout ends with it, whoever sends it and in whatever transaction.
  select format(E'%s\ndo %s;\n', crossfade_private.commented(head),
    crossfade_private.dollar_quoted(
      format(E'begin\n  set local lock_timeout = ''2s'';\n%s\nend', body)));
$$;

comment on function crossfade_private.carry_file is
  'A migration of one statement that waits at most 2 s for its lock.';

create or replace function crossfade_private.carry_column_file(tab regclass, column_name text)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select crossfade_private.carry_file(format(
    '%1$s carries a uuid in column %2$I, so that a pair can be keyed by it.
Written by: crossfade key carry %1$s
Takes ACCESS EXCLUSIVE for milliseconds. Two statements: with the default in the first one
PostgreSQL would write every row anew. Rows that are there keep null; the same command fills them.',
    tab, column_name),
    concat(format('  alter table %s add column if not exists %I uuid;', tab, column_name),
      case when not exists (
        select from pg_catalog.pg_attribute a
        where a.attrelid = tab and a.attname = column_name and a.attnum > 0 and a.atthasdef)
        then format(
          E'\n  alter table %s alter column %I set default pg_catalog.gen_random_uuid();', tab,
          column_name) end))
    || coalesce(E'\n' || crossfade_private.commented(format(
      'These triggers would run for every row that is filled, and crossfade key carry asks before.
To keep them from it, uncomment; a condition does nothing to other updates:
%s', string_agg(coalesce(g.sql || ';', format(
        '-- %I runs for several events, for each statement or has a condition: change it by hand',
        g.name)), E'\n' order by g.name))) || E'\n', '')
  from crossfade_private.fill_triggers(tab, column_name) g;
$$;

comment on function crossfade_private.carry_column_file is
  'The migration that adds the column of a carried key.';

create or replace function crossfade_private.carry_index_name(tab regclass, column_name text)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- A longer name is cut by PostgreSQL, and could then be that of another index.
  select case when octet_length(n.name) <= 63 then n.name
    else 'carry_' || md5(n.name) || '_idx' end
  from pg_catalog.pg_class c
  cross join lateral (select format('%s_%s_idx', c.relname, column_name)) n(name)
  where c.oid = tab;
$$;

comment on function crossfade_private.carry_index_name is
  'Name of the unique index of a carried key.';

create or replace function crossfade_private.carry_files(
  tab regclass, column_name text, state jsonb
)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with n as (
    select concat('carry_', regexp_replace(lower(c.relname), '[^a-z0-9]+', '_', 'g'), '_',
      regexp_replace(lower(column_name), '[^a-z0-9]+', '_', 'g')) as name,
      format('%I', left(column_name, 50) || '_is_there') as rule,
      crossfade_private.carry_index_name(tab, column_name) as idx
    from pg_catalog.pg_class c where c.oid = tab
  )
  select coalesce(jsonb_agg(jsonb_build_object('name', n.name || '-' || f.name, 'sql', f.sql)
    order by f.place), '[]')
  from n
  cross join lateral (
    values
    (1, 'column', crossfade_private.carry_column_file(tab, column_name),
      not (state ->> 'default')::boolean),
    (2, 'index', format(
      E'-- Alone in its file: in a transaction, or after another statement, it would be refused.\n'
      'create unique index concurrently %I on %s (%I);\n', n.idx, tab, column_name),
      (state ->> 'filled')::boolean and not (state ->> 'index')::boolean
        and state ->> 'broken' is null and state ->> 'building' is null),
    (3, 'check', crossfade_private.carry_file(
      'From here on no row gets null there. ACCESS EXCLUSIVE for milliseconds; reads no row.',
      format('  alter table %s add constraint %s check (%I is not null) not valid;', tab, n.rule,
        column_name)),
      (state ->> 'filled')::boolean and state ->> 'check' is null
        and not (state ->> 'not_null')::boolean),
    (4, 'validate', crossfade_private.carry_file(
      'Reads the table once; readers and writers go on. A transaction of its own: before it commits
the lock of the file before this one would be held.',
      format('  alter table %s validate constraint %s;', tab, n.rule)),
      (state ->> 'filled')::boolean and state ->> 'check' is distinct from 'valid'
        and not (state ->> 'not_null')::boolean),
    (5, 'not_null', crossfade_private.carry_file(
      'ACCESS EXCLUSIVE for milliseconds: the constraint says already what this would look for.',
      format(
        E'  alter table %1$s alter column %2$I set not null;\n'
        '  alter table %1$s drop constraint %3$s;', tab, column_name, n.rule)),
      (state ->> 'filled')::boolean and not (state ->> 'not_null')::boolean)
  ) f(place, name, sql, is_due)
  where f.is_due;
$$;

comment on function crossfade_private.carry_files is
  'The migrations that may be applied now, in their order: [{"name", "sql"}]. Those after the fill wait for it.';

create or replace function crossfade_private.carry_steps(
  tab regclass, column_name text, state jsonb
)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with facts as (
    select f.rows_done, f.rows_written, c.reltuples,
      round(f.rows_done / nullif(extract(epoch from f.progress_at - f.started_at), 0)) as speed
    from pg_catalog.pg_class c
    left join crossfade_private.key_fills f
      on f.table_name = tab::text and f.column_name = carry_steps.column_name
    where c.oid = tab
  ),
  step as (
    select v.*, bool_and(v.done) over (order by v.place rows between unbounded preceding
      and 1 preceding) as may
    from facts f
    cross join lateral (
      values
      (1, 'column', (state ->> 'default')::boolean, 'add the column, then its default for new rows',
        'ACCESS EXCLUSIVE', 'milliseconds; waits at most 2 s', null),
      (2, 'fill', (state ->> 'filled')::boolean, 'give the rows that are there a value, in batches',
        'ROW EXCLUSIVE, rows FOR NO KEY UPDATE',
        'one batch: 40 ms beside others, up to 500 ms alone', case
          when f.rows_done > 0 then format('%s rows looked at, %s filled, %s rows/s%s', f.rows_done,
            f.rows_written, f.speed, case when f.reltuples > f.rows_done and f.speed > 0
              then format(', about %s s left',
                round((f.reltuples - f.rows_done)::numeric / f.speed)) end)
          when f.reltuples >= 0 then format('about %s rows', f.reltuples::bigint) end),
      (3, 'index', (state ->> 'index')::boolean, 'make the unique index, concurrently',
        'SHARE UPDATE EXCLUSIVE', format(
          'while the table (%s) is read twice; waits for every transaction that is open',
          pg_size_pretty(pg_table_size(tab))), coalesce(
          'an interrupted build has left an index behind that every write keeps; run: drop index concurrently '
            || (state ->> 'broken'), state ->> 'building')),
      (4, 'not_null', (state ->> 'not_null')::boolean,
        'let PostgreSQL know that no row is without a value: CHECK, validated, then NOT NULL',
        'ACCESS EXCLUSIVE twice, SHARE UPDATE EXCLUSIVE', format(
          'milliseconds; and while the table (%s) is read once',
          pg_size_pretty(pg_table_size(tab))), null)
    ) v(place, step, done, does, lock, held, detail)
  )
  select jsonb_agg(jsonb_build_object('step', s.step, 'state', case
      when s.done then 'done' when s.step = 'index' and state ->> 'broken' is not null then 'broken'
      when s.step = 'index' and state ->> 'building' is not null then 'running'
      when coalesce(s.may, true) then 'next' else 'waiting' end,
    'does', s.does, 'lock', s.lock, 'held', s.held, 'detail', s.detail) order by s.place)
  from step s;
$$;

comment on function crossfade_private.carry_steps is
  'The steps of carrying a key: [{"step", "state": done, next, running, broken or waiting, "does", "lock", "held", "detail"}].';

create or replace function crossfade.carry_plan(name text, column_name text default 'uid')
returns jsonb
language plpgsql stable
security definer -- reads the catalog as the owner; only service_role may call it
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
set standard_conforming_strings = on
as $$
declare
  v_table regclass := crossfade_private.find_table(name);
  v_problems text[] := array(
    select p from crossfade_private.carry_problems(v_table, column_name) p);
  v_state jsonb;
begin
  if v_problems = '{}' then
    v_state := crossfade_private.carry_state(v_table, column_name);
  end if;
  return jsonb_build_object(
    'table', v_table::text, 'column', column_name, 'problems', to_jsonb(v_problems),
    'key', coalesce(to_jsonb(crossfade_private.primary_key(v_table)), '[]'),
    'notes', case when v_state is null or (v_state ->> 'not_null')::boolean then '[]' else (
      select jsonb_agg(n) from crossfade_private.carry_notes(v_table, column_name) n) end,
    'triggers', case when v_state is null or (v_state ->> 'filled')::boolean then '[]' else (
      select coalesce(jsonb_agg(g.name), '[]')
      from crossfade_private.fill_triggers(v_table, column_name) g) end,
    'pair', (select p.name from crossfade.pairs p
      where v_table in (to_regclass(p.v1_table), to_regclass(p.v2_table)) limit 1),
    'steps', case when v_state is null then '[]'
      else crossfade_private.carry_steps(v_table, column_name, v_state) end,
    'files', case when v_state is null then '[]'
      else crossfade_private.carry_files(v_table, column_name, v_state) end);
end $$;

comment on function crossfade.carry_plan is
  'How a table comes to carry a uuid column as a key, and how far it is: {"table", "column", "key": its own, "problems": what keeps it from it, "notes", "triggers": the owner''s, which filling would fire, "pair", "steps": [{"step": column, fill, index or not_null, "state": done, next, running, broken or waiting, "does", "lock", "held", "detail"}], "files": the migrations that may be applied now, [{"name", "sql"}]}. Changes nothing; without the index or the constraint it reads no row. CF012 unknown table.';

-- mirror/calls.sql --------------------------------------------------------------------------------

-- What the generated mirror functions call.

create or replace function crossfade_private.is_transient(error_code text)
returns boolean
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  -- Of class 55 only these two: a table without a replica identity (55000), say, stays so.
  select left(error_code, 2) in ('40', '53', '57', '58') or error_code in ('55006', '55P03');
$$;

comment on function crossfade_private.is_transient is
  'Whether an error says nothing about the row: lost conflicts, locks, resources, the system. It always reaches the writer, who tries again: recorded, it would lose the other client''s edit.';

create or replace function crossfade_private.is_of_this_transaction(row_xmin xid)
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- The age is no more than a sieve: rows of younger transactions pass it too. A visible row whose
  -- writer is in progress is ours, also when a subtransaction wrote it.
  select case when age(row_xmin) <= 0 then pg_xact_status(
    (pg_current_xact_id()::text::bigint - age(row_xmin))::text::xid8) = 'in progress'
    else false end;
$$;

comment on function crossfade_private.is_of_this_transaction is
  'Whether the current transaction wrote a row, given its xmin.';

create or replace function crossfade_private.is_written_beside(
  row_xmin xid, row_cmin cid, source_cmin cid
)
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select pg_trigger_depth() > 1 and crossfade_private.is_of_this_transaction(row_xmin)
    and row_cmin::text::bigint <= source_cmin::text::bigint;
$$;

comment on function crossfade_private.is_written_beside is
  'Whether a row may be the one whose trigger has just inserted a row of the other table with its key, as dual writes made by hand do. A row that was edited by what the mirror itself carried over is younger than that one, and somebody else''s.';

create or replace function crossfade_private.begin_engine_write(pair text)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into crossfade_private.engine_writes (transaction_id, pair, depth)
  values (pg_current_xact_id(), begin_engine_write.pair, pg_trigger_depth())
  on conflict (transaction_id) do update set pair = excluded.pair, depth = excluded.depth;
  -- Only where to look: the row above is what counts, and nobody else can write it.
  perform set_config('crossfade.mark_' || pair, 'engine', true);
end $$;

comment on function crossfade_private.begin_engine_write is
  'From here on this transaction writes a pair''s tables as a batch or repair: its rows are no news for the other side.';

create or replace function crossfade_private.end_engine_write(pair text)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  delete from crossfade_private.engine_writes w where w.transaction_id = pg_current_xact_id();
  perform set_config('crossfade.mark_' || pair, '', true);
end $$;

comment on function crossfade_private.end_engine_write is
  'The transaction''s writes are a client''s again.';

create or replace function crossfade_private.is_engine_write(pair text)
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select from crossfade_private.engine_writes w
    where w.transaction_id = pg_current_xact_id_if_assigned() and w.pair = is_engine_write.pair);
$$;

comment on function crossfade_private.is_engine_write is
  'Whether this transaction is inside a batch or repair of the pair.';

create or replace function crossfade_private.is_named_update(
  pair text, writer_side integer, statement_text text
)
returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_named jsonb;
  v_rest text;
  v_text text;
begin
  select q.pieces -> 'named' into v_named from crossfade_private.pair_pieces q
  where q.pair = is_named_update.pair and q.side = writer_side;
  if not starts_with(statement_text, v_named ->> 'head')
    or right(statement_text, length(v_named ->> 'tail')) <> v_named ->> 'tail' then
    return false;
  end if;
  v_rest := left(substr(statement_text, length(v_named ->> 'head') + 1),
    -length(v_named ->> 'tail'));
  -- Nothing but columns as they were written, in their order.
  for v_text in select t from jsonb_array_elements_text(v_named -> 'texts') t loop
    if starts_with(v_rest, v_text) then
      v_rest := substr(v_rest, length(v_text) + 1);
      if starts_with(v_rest, ', ') then
        v_rest := substr(v_rest, 3);
      end if;
    end if;
  end loop;
  return v_rest = '';
end $$;

comment on function crossfade_private.is_named_update is
  'Whether a statement is one that a mirror function builds by column, to the letter.';

create or replace function crossfade_private.is_own_write(
  context text, depth integer, pair text, writer_side integer
)
returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_function text := format('crossfade_private.mirror_%s_v%s_', pair, writer_side);
  v_rest text;
  v_place integer;
  v_name text;
  v_words text;
  v_statement text;
begin
  if depth = 1 then
    return crossfade_private.is_engine_write(pair);
  end if;
  -- Settings can be set by anybody, and the text of a statement, which may hold anything, is part
  -- of the call stack. The outermost frame is no such text: at depth 2 it is the other trigger, and
  -- between it and us is no code but its own.
  if depth = 2 and strpos(split_part(context, e'\n', -1), ' ' || v_function) > 0
    and strpos(split_part(context, e'\n', -1), '"') = 0 then
    return true;
  end if;
  -- The first frame of the other trigger's functions, behind our own line.
  v_rest := substr(context, strpos(context, e'\n') + 1);
  v_place := strpos(v_rest, ' ' || v_function);
  if v_place = 0 then
    return false;
  end if;
  v_name := split_part(substr(v_rest, v_place + length('crossfade_private.') + 1), '(', 1);
  v_words := split_part(left(v_rest, v_place), e'\n', -1);
  -- SAFETY: what stands before that frame must be one statement that is in that function to the
  -- letter. None of them can be continued by a quote, so no other text can begin with one.
  v_statement := left(v_rest, v_place - length(v_words) - 1);
  v_statement := left(substr(v_statement, strpos(v_statement, '"') + 1), -1);
  return strpos(v_words, '"') = 0 and (exists (
      select from pg_catalog.pg_proc p
      where p.pronamespace = 'crossfade_private'::regnamespace and p.proname = v_name
        and (strpos(p.prosrc, v_statement || ';') > 0
          or strpos(p.prosrc, quote_literal(v_statement) || ';') > 0))
    or v_name like '%\_edit'
      and crossfade_private.is_named_update(pair, writer_side, v_statement));
end $$;

comment on function crossfade_private.is_own_write is
  'Whether the statement that fired a trigger is one of the other side''s mirror function (writer_side) or, at depth 1, of a batch or repair of the pair; context is PG_CONTEXT, depth pg_trigger_depth(). False is always safe: the rows are then found equal.';

create or replace function crossfade_private.note_nested(mark text, depth integer)
returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_statement constant text := extract(epoch from statement_timestamp())::text;
begin
  if current_setting(mark, true) = 'engine' then
    return true;
  elsif depth > 1 then
    perform set_config(mark, v_statement, true);
    return true;
  end if;
  return current_setting(mark, true) = v_statement;
end $$;

comment on function crossfade_private.note_nested is
  'Remember that a trigger of somebody else''s wrote to the pair while this statement of the client is under way: rows in transition tables may be older than the rows. True when that is so.';

create or replace function crossfade_private.record_failure(
  pair text, written_side integer, key jsonb, operation text, error_code text, message text,
  moved_to jsonb default null
)
returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  insert into crossfade.mirror_failures as f (pair, written_side, key, operation, error_code,
    message, moved_to)
  values (
    record_failure.pair, record_failure.written_side, record_failure.key,
    record_failure.operation, record_failure.error_code, left(record_failure.message, 500),
    record_failure.moved_to
  )
  on conflict (pair, key) where resolved_at is null do update
  set written_side = excluded.written_side, operation = excluded.operation,
    error_code = excluded.error_code, message = excluded.message,
    moved_to = coalesce(excluded.moved_to, f.moved_to), at = clock_timestamp(),
    attempts = f.attempts + 1;
$$;

comment on function crossfade_private.record_failure is
  'Note a write that reached one table only. One open row per key; the last written side wins. moved_to: the key that the counterpart of the row has still to follow to.';

create or replace function crossfade_private.is_unmirrored_tie(pair text, constraint_name text)
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select from pg_catalog.pg_constraint k
    join crossfade.pairs p on p.name = is_unmirrored_tie.pair
    join crossfade.pairs o on o.name <> p.name
    join crossfade_private.mirror_state m on m.pair = o.name and m.mirror in ('off', 'waiting')
    where k.contype = 'f' and k.conname = is_unmirrored_tie.constraint_name
      and (k.conrelid, k.confrelid) in (
        (to_regclass(p.v1_table), to_regclass(o.v1_table)),
        (to_regclass(o.v1_table), to_regclass(p.v1_table)),
        (to_regclass(p.v2_table), to_regclass(o.v2_table)),
        (to_regclass(o.v2_table), to_regclass(p.v2_table))));
$$;

comment on function crossfade_private.is_unmirrored_tie is
  'Whether a foreign key ties the pair to one whose writes are not mirrored (off, waiting).';

create or replace function crossfade_private.refuse_or_record(
  pair text, written_side integer, key jsonb, operation text, error_code text, message text,
  constraint_name text
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  -- On the way back from complete nobody is served from V1 yet: its rules stop no writer of V2.
  if (select m.failure_policy from crossfade_private.mirror_state m
    where m.pair = refuse_or_record.pair and m.mirror <> 'reverse') = 'raise'
    -- Also when the stage has changed since V1 refused.
    and constraint_name is distinct from 'crossfade_archive'
    -- Rows that were left by a mirror that is off, or are missing for it, are no client's fault.
    and not (error_code in ('23001', '23503')
      and crossfade_private.is_unmirrored_tie(pair, constraint_name)) then
    -- Without the detail: that shows the other table's row, and the writer may not see all of it.
    raise exception using errcode = error_code, message = message,
      constraint = coalesce(constraint_name, '');
  end if;
  perform crossfade_private.record_failure(pair, written_side, key, operation, error_code, message);
end $$;

comment on function crossfade_private.refuse_or_record is
  'What becomes of a row that the other table refuses: by the pair''s failure_policy the error is raised again or recorded; it is always recorded on the way back from complete, save keys that are taken, which are refused before, and where a foreign key ties it to a pair that is not mirrored.';

create or replace function crossfade_private.note_keys(
  pair text, side integer, operation text, keys jsonb[]
)
returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  insert into crossfade.mirror_failures as f (pair, written_side, key, operation, error_code,
    message)
  select distinct note_keys.pair, note_keys.side, k, note_keys.operation, 'LOGGED',
    'only noted: the mirror is log_only'
  from unnest(keys) k order by k
  on conflict (pair, key) where resolved_at is null do update
  set written_side = excluded.written_side, at = clock_timestamp(),
    -- That its row was deleted is all that tells a new row with the key from the old one.
    operation = case when f.operation = 'DELETE' and f.written_side = excluded.written_side
      then f.operation else excluded.operation end;
$$;

comment on function crossfade_private.note_keys is
  'Mirror mode log_only: note the keys of written rows as open failures, which repair drains.';

create or replace function crossfade_private.is_noted_delete(pair text, side integer, key jsonb)
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select from crossfade.mirror_failures f
    where f.pair = is_noted_delete.pair and f.key = is_noted_delete.key and f.resolved_at is null
      and f.written_side = is_noted_delete.side and f.operation = 'DELETE'
      -- What is mirrored makes a new row a counterpart of its own.
      and f.error_code = 'LOGGED');
$$;

comment on function crossfade_private.is_noted_delete is
  'Whether the row of a key was deleted on a side while writes were only noted: if there is one again, it is another row, and the counterpart is the old one''s.';

create or replace function crossfade_private.forget_noted_delete(pair text, key jsonb)
returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  update crossfade.mirror_failures f set operation = 'MOVE'
  where f.pair = forget_noted_delete.pair and f.key = forget_noted_delete.key
    and f.resolved_at is null and f.operation = 'DELETE';
$$;

comment on function crossfade_private.forget_noted_delete is
  'The counterpart of a deleted row is gone: what has its key now has one of its own.';

create or replace function crossfade_private.note_unseen(
  pair text, side integer, operation text, keys jsonb[]
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  -- FOR SHARE: the sweep of the backfill waits for this transaction, so it finds what is noted.
  perform from crossfade_private.mirror_state m where m.pair = note_unseen.pair and m.tombstones
  for share;
  if found then
    insert into crossfade_private.tombstones (pair, side, key)
    select note_unseen.pair, note_unseen.side, k from unnest(keys) k;
  else
    perform crossfade_private.record_failure(pair, side, k, operation, 'CF017',
      'the row is not visible to the transaction, or not there')
    from unnest(keys) k;
  end if;
end $$;

comment on function crossfade_private.note_unseen is
  'Note keys of rows that a transaction above READ COMMITTED deleted, or moved away, and whose counterparts its snapshot does not show: a copy may have been made since. While a backfill runs the final sweep removes it, else repair. Locks the pair''s state row FOR SHARE.';

create or replace function crossfade_private.refuse_blind_truncate(pair text, table_name text)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if exists (
      select from crossfade.pairs p
      where p.name = refuse_blind_truncate.pair
        and p.last_backfill_at is not null and not p.needs_reverse_backfill)
    and not exists (select from crossfade.mirror_failures f
      where f.pair = refuse_blind_truncate.pair and f.resolved_at is null)
    and not exists (select from crossfade.mismatches m
      where m.pair = refuse_blind_truncate.pair and m.resolved_at is null)
  then
    return;
  end if;
  raise exception using errcode = '55000',
    message = format('Cannot truncate %s above READ COMMITTED: rows of the other table may have no '
      'counterpart here, and the snapshot does not show which', table_name),
    hint = 'Truncate in a READ COMMITTED transaction, or when the backfill has finished and '
      'nothing is left to repair.';
end $$;

comment on function crossfade_private.refuse_blind_truncate is
  'Raises 55000 unless every row of the pair is known to be in both tables: a snapshot tells no counterpart from a row that was never copied.';

create or replace function crossfade_private.move_failure(pair text, from_key jsonb, to_key jsonb)
returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  update crossfade.mirror_failures f set moved_to = to_key
  where f.pair = move_failure.pair and f.moved_to = from_key and f.resolved_at is null;
  update crossfade.mirror_failures f set key = to_key
  where f.pair = move_failure.pair and f.key = from_key and f.resolved_at is null
    and not exists (
      select from crossfade.mirror_failures o
      where o.pair = f.pair and o.key = to_key and o.resolved_at is null);
$$;

comment on function crossfade_private.move_failure is
  'An open failure goes with the row whose key changed.';

create or replace function crossfade_private.is_any_behind(pair text)
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select from crossfade.mirror_failures f
    where f.pair = is_any_behind.pair and f.resolved_at is null and f.moved_to is not null);
$$;

comment on function crossfade_private.is_any_behind is
  'Whether some row of a pair could not follow a changed key of its counterpart: asked before keys are written as JSON for note_behind.';

create or replace function crossfade_private.note_behind(
  pair text, side integer, operation text, keys jsonb[]
)
returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select crossfade_private.record_failure(f.pair, note_behind.side, k, note_behind.operation,
    f.error_code, f.message)
  from crossfade.mirror_failures f
  join unnest(note_behind.keys) k on k in (f.key, f.moved_to)
  where f.pair = note_behind.pair and f.resolved_at is null and f.moved_to is not null;
$$;

comment on function crossfade_private.note_behind is
  'Note writes of rows whose counterpart has another key, since one of the two could not follow: when repair brings them together, the side that was written last wins.';

create or replace function crossfade_private.noted_moves(setting text)
returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_moves jsonb;
begin
  v_moves := nullif(current_setting(setting, true), '')::jsonb;
  return case when jsonb_typeof(v_moves) = 'object' then v_moves else '{}'::jsonb end;
exception when others then
  return '{}'::jsonb; -- Anybody can set a setting to anything.
end $$;

comment on function crossfade_private.noted_moves is
  'What note_move has noted, from key to key; empty when the setting holds something else.';

create or replace function crossfade_private.note_move(setting text, from_key jsonb, to_key jsonb)
returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select set_config(setting, (crossfade_private.noted_moves(setting)
    || jsonb_build_object(from_key::text, to_key))::text, true);
$$;

comment on function crossfade_private.note_move is
  'Note, until the transaction ends, that a row moved on before its counterpart had moved to its first new key.';

create or replace function crossfade_private.noted_move(setting text, from_key jsonb)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with recursive noted(moves) as (
    select crossfade_private.noted_moves(setting)
  ),
  step(key, number) as (
    select n.moves -> from_key::text, 1 from noted n
    union all
    select n.moves -> s.key::text, s.number + 1
    from step s cross join noted n where s.key is not null and s.number < 100
  )
  select s.key from step s where s.key is not null order by s.number desc limit 1;
$$;

comment on function crossfade_private.noted_move is
  'Where a row went on to from a key, by note_move; null when nothing was noted.';

-- mirror/watching.sql -----------------------------------------------------------------------------

-- Who still writes V1, in stage rampdown: complete waits until nobody does. What the mirror,
-- batches and foreign keys write does not count; a write whose statement names neither V1 nor a
-- parent does.

create or replace function crossfade_private.parent_pattern(tab regclass)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with recursive parent(id) as (
    select o.confrelid from pg_catalog.pg_constraint o
    where o.conrelid = tab and o.contype = 'f' and o.confrelid <> tab
      and not (o.confdeltype in ('a', 'r') and o.confupdtype in ('a', 'r'))
    union
    select o.confrelid
    from parent p
    join pg_catalog.pg_constraint o on o.conrelid = p.id and o.contype = 'f'
      and not (o.confdeltype in ('a', 'r') and o.confupdtype in ('a', 'r'))
  )
  select string_agg(crossfade_private.name_pattern(p.id), '|') from parent p where p.id <> tab;
$$;

comment on function crossfade_private.parent_pattern is
  'A regular expression that finds the names of the tables whose rows take rows of this one with them; null without such.';

create or replace function crossfade_private.is_parents_statement(statement text, tab regclass)
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- An AFTER trigger cannot see that a foreign key is at work, only what the client sent.
  select coalesce(statement !~* crossfade_private.name_pattern(tab)
    and statement ~* crossfade_private.parent_pattern(tab), false);
$$;

comment on function crossfade_private.is_parents_statement is
  'Whether a statement that changed rows of a table names a parent and not the table: then a foreign key did it.';

create or replace function crossfade_private.note_v1_write(pair text)
returns text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_table regclass;
  v_context text;
begin
  -- Outside of triggers somebody asks who does not write.
  if pg_trigger_depth() = 0 or crossfade_private.is_engine_write(pair) or exists (
    select from crossfade_private.v1_writes w
    where w.pair = note_v1_write.pair and w.session_pid = pg_backend_pid()
      and w.at > clock_timestamp() - interval '10 seconds') then
    return 'on';
  end if;
  get diagnostics v_context = pg_context;
  -- What stands above the trigger that asks.
  v_context := substring(v_context from 'crossfade_private\.mirror_' || pair
    || '_v1_(?:insert|update|delete|truncate)\(\)[^\n]*\n(.*)$');
  select to_regclass(p.v1_table) into v_table from crossfade.pairs p
  where p.name = note_v1_write.pair;
  if crossfade_private.is_parents_statement(coalesce(v_context, current_query()), v_table) then
    return 'on';
  end if;
  insert into crossfade_private.v1_writes as w (pair, session_pid, role, application, called_by)
  values (note_v1_write.pair, pg_backend_pid(),
    coalesce(nullif(current_setting('role', true), 'none'), session_user),
    left(current_setting('application_name'), 100),
    substring(v_context from '(?:^|"\n)[^\n"]* ([^\s"]+\([^\n()]*\))'))
  on conflict on constraint v1_writes_pkey do update
  set at = excluded.at, role = excluded.role, application = excluded.application,
    called_by = excluded.called_by;
  return 'on';
exception when others then
  if crossfade_private.is_transient(sqlstate) then
    raise;
  end if;
  -- Best effort: a writer of V1 must not fail because nobody could note it.
  raise warning 'crossfade: a write of version 1 of "%" could not be noted: %', pair, sqlerrm;
  return 'on';
end $$;

comment on function crossfade_private.note_v1_write is
  'State of V1''s triggers while its writes are watched: on, and notes who wrote, once in 10 s a session, in a row of that session''s own, so that nobody waits for anybody.';

create or replace function crossfade_private.v1_write_blocker(pair crossfade.pairs)
returns table (message text, hint text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with settings as (
    select crossfade_private.setting_number('stage_bake_s')::double precision as bake_s
  )
  select format(
      'version 1 was written directly until %s by %s; setting stage_bake_s wants %s s without',
      to_char(max(w.at) at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"'),
      string_agg(distinct concat('role ', w.role, ' (application "', w.application, '"',
        ', by ' || w.called_by, ')'), ', '), s.bake_s),
    format(
      'Let what is named write version 2, then wait. Look again with: crossfade stage blockers %s',
      min(w.pair))
  from crossfade_private.v1_writes w cross join settings s
  where w.pair = (v1_write_blocker.pair).name
    and w.at > clock_timestamp() - make_interval(secs => s.bake_s)
  group by s.bake_s
  union all
  select format(
      'writes of version 1 have been watched since %s only; setting stage_bake_s wants %s s',
      coalesce(to_char(m.watched_since at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"'), 'now'),
      s.bake_s), 'Wait.'
  from crossfade_private.mirror_state m cross join settings s
  where m.pair = (v1_write_blocker.pair).name and coalesce(
    m.watched_since > clock_timestamp() - make_interval(secs => s.bake_s), true);
$$;

comment on function crossfade_private.v1_write_blocker is
  'Why it is not sure yet that nobody writes V1 any more; no row when it is.';

-- mirror/state.sql --------------------------------------------------------------------------------

-- What the mirror of a pair does: a row that is the record, and constants for the triggers.
-- A constant function costs a trigger 0.2 microseconds where a query costs ten; replacing one is
-- transactional and locks no table. But a session that has a table locked already does not hear of
-- it before its transaction ends. So every change has a number, taken from a sequence whose last
-- value any session sees at once: where that is not the constant's, the row is read.

create or replace function crossfade_private.state_of(mirror text, side integer)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when mirror in ('off', 'waiting') then 'off'
    when mirror = 'both' then 'on'
    when mirror = 'log_only' then 'log'
    when side = 1 then 'archive' -- what gets through (foreign keys) is not mirrored
    when mirror = 'archived' then 'off'
    else 'on' end;
$$;

comment on function crossfade_private.state_of is
  'What the triggers of one side do in a mirror mode: off, on, log (note keys only) or archive (refuse).';

create or replace function crossfade_private.stored_state(pair text, side integer)
returns text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_mirror text;
begin
  if current_setting('transaction_isolation') = 'read committed' then
    select m.mirror into v_mirror from crossfade_private.mirror_state m
    where m.pair = stored_state.pair;
  else
    -- SAFETY: with an older snapshot a plain read could miss that mirroring was switched on; the
    -- row lock makes PostgreSQL answer with a serialization failure instead.
    select m.mirror into v_mirror from crossfade_private.mirror_state m
    where m.pair = stored_state.pair for share;
  end if;
  return crossfade_private.state_of(coalesce(v_mirror, 'off'), side);
end $$;

comment on function crossfade_private.stored_state is
  'What the triggers of one side do, by the row. Locks it FOR SHARE above READ COMMITTED.';

create or replace function crossfade_private.read_state(pair text, side integer)
returns text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_state constant text := crossfade_private.stored_state(pair, side);
begin
  if side = 1 and v_state = 'on' and exists (
    select from crossfade_private.mirror_state m
    where m.pair = read_state.pair and m.watched_since is not null) then
    return crossfade_private.note_v1_write(pair);
  end if;
  return v_state;
end $$;

comment on function crossfade_private.read_state is
  'stored_state, for sessions whose constants are older than the last change; as these do, it notes who writes V1 while that is watched.';

create or replace function crossfade_private.set_state_functions(
  pair text, side integer, state text, change bigint, is_watched boolean
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_function record;
begin
  for v_function in select * from (values
    ('state', 'text', 'immutable parallel safe', format('select %L::text', state)),
    ('change', 'bigint', 'immutable parallel safe', format('select %s::bigint', change))
    ) f(name, type, kind, body)
    where f.name = 'change' or not is_watched
    union all
    -- Asking is noting: V1's own writers pay for that, and only in this stage.
    select 'state', 'text', 'volatile', format('select crossfade_private.note_v1_write(%L)', pair)
    where is_watched
  loop
    execute format('create or replace function crossfade_private.mirror_%s_v%s_%s() returns %s
      language sql %s set search_path = pg_catalog, pg_temp as %L',
      pair, side, v_function.name, v_function.type, v_function.kind, v_function.body);
    execute format('revoke all on function crossfade_private.mirror_%s_v%s_%s from public',
      pair, side, v_function.name);
  end loop;
end $$;

comment on function crossfade_private.set_state_functions is
  'Make the constants of one side: what its triggers do (off, on, log: note keys only, archive: refuse), and the number of the change that said so. Where it is watched, what its triggers ask also notes the writer.';

create or replace function crossfade_private.set_state(
  pair text, mirror text, is_watched boolean
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_change bigint;
begin
  if to_regclass(format('crossfade_private.mirror_%s_changes', pair)) is null then
    execute format('create sequence crossfade_private.mirror_%s_changes', pair);
  end if;
  -- The time, not the next number: the data of one database may be restored into the schema of
  -- another one, where the same number said something else.
  v_change := setval(format('crossfade_private.mirror_%s_changes', pair)::regclass,
    (extract(epoch from clock_timestamp()) * 1000000)::bigint);
  perform crossfade_private.set_state_functions(
    pair, s.side, crossfade_private.state_of(mirror, s.side), v_change,
    is_watched and mirror = 'both' and s.side = 1)
  from (values (1), (2)) s(side);
end $$;

comment on function crossfade_private.set_state is
  'Say what the triggers of a pair do from now on. Transactional; locks no table.';

create or replace function crossfade_private.mend_state(pair text)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '2s'
as $$
declare
  v_state crossfade_private.mirror_state;
  v_agrees boolean;
begin
  -- Only the numbers: to ask for a state may be to note a writer.
  execute format('select pg_sequence_last_value(%L) = all (array[
    crossfade_private.mirror_%2$s_v1_change(), crossfade_private.mirror_%2$s_v2_change()])',
    format('crossfade_private.mirror_%s_changes', pair), pair) into v_agrees;
  if v_agrees then
    return;
  end if;
  select m.* into v_state from crossfade_private.mirror_state m
  where m.pair = mend_state.pair for no key update;
  perform crossfade_private.set_state(pair, v_state.mirror, v_state.watched_since is not null);
end $$;

comment on function crossfade_private.mend_state is
  'Make the constants of a pair anew where they are not those of its row, as after a restore or a change that was undone: triggers then read the row, which is slower. Locks the row in that case; waits at most 2 s for it (55P03).';

create or replace function crossfade_private.open_or_close(pair text)
returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  update crossfade_private.mirror_state m set opened = q.wanted
  from (
    select s.pair, s.mirror not in ('off', 'log_only') and p.last_backfill_at is not null
      and not s.unproven
      and (s.opened or not exists (
        select from crossfade.mirror_failures f
        where f.pair = s.pair and f.resolved_at is null and f.error_code = 'LOGGED')) as wanted
    from crossfade_private.mirror_state s join crossfade.pairs p on p.name = s.pair
    where s.pair = open_or_close.pair
  ) q
  where m.pair = q.pair and m.opened <> q.wanted;
$$;

comment on function crossfade_private.open_or_close is
  'Open V2 to API roles, or close it: open once a backfill has finished and, where V2 had rows before, a verify pass has been clean; closed in stage off, while the mirror only notes keys, and until those notes are drained. Locks the pair''s state row.';

-- mirror/archive.sql ------------------------------------------------------------------------------

-- The archive: in stage complete V1 refuses statements.

create or replace function crossfade_private.is_referential_action(context text, depth integer)
returns boolean
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  -- What a foreign key does is a statement of PostgreSQL's own, of one line, right above the
  -- trigger; and right above it is the statement on the parent, or nothing. A function whose
  -- dynamic SQL looks the same to the letter stands there itself, and has brackets that are in no
  -- quotes.
  select depth > 1 and split_part(context, e'\n', 2)
      ~ '^[^"]*"(DELETE FROM|UPDATE) (ONLY )?".* OPERATOR\([^()]+\) "[^"]+("")*[^"]*""?$'
    and split_part(context, e'\n', 3) !~ '^[^"]*("([^"]|"")*"[^"]*)*\(';
$$;

comment on function crossfade_private.is_referential_action is
  'Whether the statement that fired a BEFORE trigger is the action of a foreign key, given PG_CONTEXT and pg_trigger_depth(). An AFTER trigger cannot know: PostgreSQL fires those of such a statement at the depth of the outer one.';

create or replace function crossfade_private.refuse_archived_write()
returns trigger
language plpgsql volatile
security definer -- writers may not read the pair's state
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pair constant text := tg_argv[0];
  v_context text;
begin
  get diagnostics v_context = pg_context;
  -- A cascade from a parent belongs to the statement on the parent, and V2 has cascades of its own.
  if crossfade_private.stored_state(v_pair, 1) <> 'archive'
    or crossfade_private.is_engine_write(v_pair)
    or crossfade_private.is_referential_action(v_context, pg_trigger_depth())
    or pg_trigger_depth() > 1
      and crossfade_private.is_own_write(v_context, pg_trigger_depth(), v_pair, 2) then
    return null;
  end if;
  perform crossfade_private.fail(
    409, 'CF_ARCHIVED', format('Cannot write version 1 of "%s": %s is a read-only archive', v_pair,
      format('%I.%I', tg_table_schema, tg_table_name)),
    jsonb_build_object('pair', v_pair, 'table', format('%I.%I', tg_table_schema, tg_table_name)),
    'Write version 2, or go back with crossfade stage set PAIR rampdown.', 'crossfade_archive');
  return null;
end $$;

comment on function crossfade_private.refuse_archived_write is
  'BEFORE STATEMENT trigger on V1, from the first stage complete on: every statement is refused while the stage is complete (PT409 CF_ARCHIVED), also one of a trigger, but for what foreign keys do and what the way back writes.';

create or replace function crossfade_private.drop_archived_row()
returns trigger
language plpgsql volatile
security definer -- writers may not read the pair's state
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pair constant text := tg_argv[0];
  v_context text;
begin
  -- V2 leads: what a trigger of V1 makes of a row from there, in either table, would differ from
  -- it, the repair of that would fire the trigger again, and there would be no way back.
  if current_setting('crossfade.mark_' || v_pair, true) = 'engine' and exists (
      select from crossfade_private.engine_writes w
      where w.transaction_id = pg_current_xact_id_if_assigned() and w.pair = v_pair
        and pg_trigger_depth() > w.depth + 1)
    and crossfade_private.stored_state(v_pair, 1) = 'archive' then
    get diagnostics v_context = pg_context;
    -- What a foreign key does must be done, or rows would refer to rows that are gone.
    if not crossfade_private.is_referential_action(v_context, pg_trigger_depth()) then
      return null;
    end if;
  end if;
  return coalesce(new, old);
end $$;

comment on function crossfade_private.drop_archived_row is
  'BEFORE ROW trigger on both tables, from the first stage complete on: while batches and repairs bring the archive up to date, what triggers make of their rows is left out, not what foreign keys do.';

create or replace function crossfade_private.install_archive(pair crossfade.pairs)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '2s'
as $$
declare
  v_table regclass;
begin
  execute format('create or replace trigger crossfade_archive
    before insert or update or delete or truncate on %s for each statement
    execute function crossfade_private.refuse_archived_write(%L)', (pair).v1_table, (pair).name);
  for v_table in select unnest(array[(pair).v1_table, (pair).v2_table]) loop
    execute format('create or replace trigger crossfade_archive_row
      before insert or update or delete on %s for each row when (pg_trigger_depth() > 0)
      execute function crossfade_private.drop_archived_row(%L)', v_table, (pair).name);
  end loop;
end $$;

comment on function crossfade_private.install_archive is
  'Create the triggers that refuse statements on V1, and leave out what its triggers would write into either table. Takes SHARE ROW EXCLUSIVE on both; waits at most 2 s for each (55P03).';

create or replace function crossfade_private.follow_mirror_state()
returns trigger
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  perform crossfade_private.set_state(new.pair, new.mirror, new.watched_since is not null);
  if new.mirror = 'archived' then
    perform crossfade_private.install_archive(p) from crossfade.pairs p where p.name = new.pair;
  end if;
  return null;
end $$;

comment on function crossfade_private.follow_mirror_state is
  'AFTER ROW trigger of mirror_state: the constants that the mirror''s triggers ask follow the row.';

create or replace trigger crossfade_after_state
after insert or update of mirror, watched_since on crossfade_private.mirror_state
for each row execute function crossfade_private.follow_mirror_state();

-- mirror/fence.sql --------------------------------------------------------------------------------

-- The trigger that refuses a direct write to V2 while a fencing kill switch stands.

create or replace function crossfade_private.refuse_fenced_write()
returns trigger
language plpgsql volatile
security definer -- API roles may not read the switches
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pair text := tg_argv[0];
begin
  -- current_user is the owner in here; the role setting still names who came through the Data API,
  -- also when they went through a SECURITY DEFINER function of the project.
  if coalesce(current_setting('role', true), 'none') not in ('anon', 'authenticated',
    'service_role')
    and session_user <> 'authenticator' then
    return null;
  end if;
  if current_setting('crossfade.mark_' || v_pair, true) = 'engine'
    and crossfade_private.is_engine_write(v_pair) then
    return null;
  end if;
  -- Order matters: lock first, then look. Engaging a switch waits for the holders of this lock.
  perform pg_advisory_xact_lock_shared(crossfade_private.fence_lock_key());
  if current_setting('transaction_isolation') <> 'read committed' then
    -- SAFETY: with an older snapshot a plain read could miss a switch; the row lock makes
    -- PostgreSQL answer with a serialization failure instead. It is given back at once (a
    -- subtransaction that is undone), or a kill would wait for this transaction without limit. The
    -- lock above is what holds a kill off.
    begin
      perform from crossfade.kill_switches k where k.fences for share;
      perform from crossfade_private.mirror_state m where m.pair = v_pair for share;
      raise exception using errcode = 'CF000', message = 'nothing is wrong';
    exception when sqlstate 'CF000' then
      null;
    end;
  end if;
  if crossfade_private.fence_engaged(v_pair) then
    perform crossfade_private.fail(
      409, 'CF_FENCED', format('Cannot write %s: a kill switch stops writes to version 2 of "%s"',
        format('%I.%I', tg_table_schema, tg_table_name), v_pair),
      jsonb_build_object('pair', v_pair, 'flags_version', crossfade.flags_version()),
      'Write version 1: both stay the same. An operator releases the switch with crossfade kill release.');
  end if;
  if not (select m.opened from crossfade_private.mirror_state m where m.pair = v_pair) then
    perform crossfade_private.fail(
      409, 'CF_CLOSED', format('Cannot write %s: version 2 of "%s" is not open yet',
        format('%I.%I', tg_table_schema, tg_table_name), v_pair),
      jsonb_build_object('pair', v_pair),
      'Write version 1. Version 2 opens when the first backfill has finished (crossfade backfill run) and, where it had rows before, when a verify pass has found no difference (crossfade verify run).');
  end if;
  return null;
end $$;

comment on function crossfade_private.refuse_fenced_write is
  'BEFORE STATEMENT trigger on V2: refuse a direct write by an API role while a fencing kill switch is engaged (PT409 CF_FENCED), and as long as not every row of V1 has a counterpart (PT409 CF_CLOSED): with the key of such a row a user could take it over. Statements of triggers, referential actions and batches pass. Holds the fence lock shared until the transaction ends.';

-- mirror/insert.sql -------------------------------------------------------------------------------

-- The text of the function that mirrors INSERT. {names} are filled in for each pair
-- (mirror_pieces).

create or replace function crossfade_private.mirror_insert_text()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$
-- {made_by}: rows inserted into V{side}.
#variable_conflict use_column
declare
  cf_depth integer;
  cf_state text;
  cf_nested boolean;
  cf_number bigint;
  cf_context text;
  cf_stale jsonb[];
  cf_rows {source}[];
  cf_taken jsonb;
  cf_constraint text;
begin
  -- Order matters for speed: each expression costs, so the common cases are asked for first.
  if pg_trigger_depth() = 2 then
    get diagnostics cf_context = pg_context;
    if split_part(cf_context, e'\n', -1) = {own_insert} then
      return null;
    end if;
  elsif {is_plain} and {counter} > 0 then
    -- New rows have no counterpart as a rule. One plan does for one row and for 40,000: it joins
    -- nothing, and without ON CONFLICT a row costs one index search less.
    begin
      insert into {target} ({target_columns}) overriding system value
      select {made_columns}
      from (select row(cf_x.*)::{source} as cf_n from {new_rows} cf_x) cf_q
      cross join lateral {convert_new} cf_c;
      {when_written}
    exception when others or assert_failure then
      if crossfade_private.is_transient(sqlstate) then
        raise;
      end if;
    end;
  end if;
  cf_depth := pg_trigger_depth();
  if cf_depth > 1 then
    {read_context}
    if {own_write} then
      return null;
    end if;
  end if;
  cf_state := {state};
  if cf_state in ('off', 'archive') or {engine_write} then
    return null;
  end if;
  {count_if_not_plain}
  cf_nested := {nested};
  if cf_state = 'log' then
    -- The row that had the key was deleted, which was only noted: its counterpart goes now, or this
    -- row would inherit what only the other table held of that one.
    cf_stale := array(select cf_key from (select {key_json_x} as cf_key from cf_new cf_x) cf_q
      where crossfade_private.is_noted_delete({pair_literal}, {side}, cf_key));
    if cardinality(cf_stale) > 0 then
      begin
        delete from {target} cf_t using {new_rows} cf_r
        where {same_key_t_r} and {key_json_r} = any (cf_stale);
        if exists (select from {new_rows} cf_r join {target} cf_t on {same_key_t_r}
            where {key_json_r} = any (cf_stale)) then
          {raise_dropped}
        end if;
        perform crossfade_private.forget_noted_delete({pair_literal}, cf_key)
        from unnest(cf_stale) cf_key;
      exception when others or assert_failure then
        if crossfade_private.is_transient(sqlstate) then
          raise;
        end if;
      end;
    end if;
    -- Waits for whoever notes the same key at this moment, and sees that row below.
    perform crossfade_private.note_keys({pair_literal}, {side}, tg_op,
      array(select {key_json_x} from cf_new cf_x));
    begin
      cf_rows := array(select row(cf_r.*)::{source} from {new_rows} cf_r
        where {key_json_r} <> all (cf_stale));
      {refuse_taken}
    exception when others or assert_failure then
      get stacked diagnostics cf_constraint = constraint_name;
      -- A row that cannot be converted is no concern of the client's: repair will hear of it.
      if sqlstate = '23505' and cf_constraint = 'crossfade_one_key'
        or crossfade_private.is_transient(sqlstate) then
        raise;
      end if;
    end;
    return null;
  end if;
  perform {function}_put(array(select row(cf_x.*)::{source} from {new_rows} cf_x), tg_op);
  return null;
end $body$;
$text$;

comment on function crossfade_private.mirror_insert_text is
  'Body of crossfade_private.mirror_<pair>_v<side>_insert: AFTER STATEMENT trigger with the new rows as cf_new.';

-- mirror/put.sql ----------------------------------------------------------------------------------

-- The text of the function that makes whole counterparts: of inserted rows that the one statement
-- of the INSERT trigger did not settle, and of rows that came back while they were deleted.

create or replace function crossfade_private.mirror_put_text()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$
-- {made_by}: whole counterparts of rows of V{side}, read again by their keys.
#variable_conflict use_column
declare
  cf_size constant integer := cardinality(cf_rows);
  cf_step constant integer := greatest(1, cf_size / 16);
  cf_written bigint;
  cf_taken jsonb;
  cf_constraint text;
begin
  if cf_size = 0 then
    return;
  end if;
  begin
    if current_setting('transaction_isolation') <> 'read committed' then
      -- 40001 where the snapshot shows a row that another transaction has deleted since.
      perform from unnest(cf_rows) cf_r join {target} cf_t on {same_key_t_r}
      for no key update of cf_t;
    end if;
    -- New rows have none as a rule.
    if exists (select from unnest(cf_rows) cf_r join {target} cf_t on {same_key_t_r}) then
      {refuse_taken}
      update {target} cf_t set {whole}
      from unnest(cf_rows) cf_r
      join {source} cf_s on {same_key_s_r}
      where {same_key_t_s} and {written_beside}
        and exists (select from lateral {convert} cf_c where {differs});
      get diagnostics cf_written = row_count;
      if cf_written < cf_size and exists (
          select from unnest(cf_rows) cf_r
          join {source} cf_s on {same_key_s_r}
          join {target} cf_t on {same_key_t_s}
          cross join lateral {convert} cf_c
          where {differs}) then
        {raise_dropped}
      end if;
    end if;
    insert into {target} ({target_columns}) overriding system value
    select {made_columns}
    from unnest(cf_rows) cf_r
    join {source} cf_s on {same_key_s_r}
    cross join lateral {convert_now} cf_c
    where not exists (select from {target} cf_t where {same_key_t_s});
    perform from unnest(cf_rows) cf_r
    join {source} cf_s on {same_key_s_r}
    cross join lateral {convert_now} cf_c
    where not exists (select from {target} cf_t where {same_key_t_s});
    if found then
      {raise_dropped}
    end if;
    return;
  exception when others or assert_failure then
    get stacked diagnostics cf_constraint = constraint_name;
    if sqlstate = '23505' and cf_constraint = any (array['crossfade_one_key'] || {target_key_names})
      or crossfade_private.is_transient(sqlstate) then
      raise;
    elsif cf_size = 1 then
      perform crossfade_private.refuse_or_record(
        {pair_literal}, {side}, {key_json_row}, cf_operation, sqlstate, sqlerrm, cf_constraint);
      return;
    end if;
  end;
  -- One bad row of 20,000 costs some 60 subtransactions this way, and is the only one left out.
  for cf_at in 1..cf_size by cf_step loop
    perform {function}_put(cf_rows[cf_at : cf_at + cf_step - 1], cf_operation);
  end loop;
end $body$;
$text$;

comment on function crossfade_private.mirror_put_text is
  'Body of crossfade_private.mirror_<pair>_v<side>_put(cf_rows, cf_operation): all rows at once, then in sixteenths, then one by one; what is refused is recorded.';

create or replace function crossfade_private.refuse_taken_text()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$-- SAFETY: a row that only the other table had is somebody else's, whoever has edited
    -- it since. Writing over it would hand it to whoever inserted this one. A counterpart that a
    -- trigger has already made of this row does not differ.
    select {key_json_s} into cf_taken
    from unnest(cf_rows) cf_r
    join {source} cf_s on {same_key_s_r}
    join {target} cf_t on {same_key_t_s}
    cross join lateral {convert} cf_c
    where not {written_beside} and ({differs})
    limit 1;
    if cf_taken is not null then
      raise exception using errcode = '23505', constraint = 'crossfade_one_key',
        message = format('duplicate key %s: %s has a row with it', cf_taken, {target_literal});
    end if;$body$;
$text$;

comment on function crossfade_private.refuse_taken_text is
  'The part of the texts for INSERT that raises 23505 (constraint crossfade_one_key) where the other table has a row with the key that is not made of the inserted one.';

-- mirror/update.sql -------------------------------------------------------------------------------

-- The text of the function that mirrors UPDATE. {names} are filled in for each pair
-- (mirror_pieces).

create or replace function crossfade_private.mirror_update_text()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$
-- {made_by}: rows updated in V{side}.
#variable_conflict use_column
declare
  cf_depth integer;
  cf_state text;
  cf_nested boolean;
  cf_number bigint;
  cf_context text;
  cf_count bigint;
  cf_moved boolean;
  cf_changed boolean;
  cf_written bigint;
  cf_olds {source}[];
  cf_news {source}[];
  cf_refused integer[];
  cf_left {source}[];
  {flags_declared}
begin
  -- Order matters for speed: each expression costs, so the common cases are asked for first.
  if pg_trigger_depth() = 2 then
    get diagnostics cf_context = pg_context;
    if split_part(cf_context, e'\n', -1) = {own_update} then
      return null;
    end if;
  {single_update}
  end if;
  cf_depth := pg_trigger_depth();
  if cf_depth > 1 then
    {read_context}
    if {own_write} then
      return null;
    end if;
  end if;
  cf_state := {state};
  if cf_state in ('off', 'archive') or {engine_write} then
    return null;
  end if;
  {count_update}
  cf_nested := {nested};
  -- Old and new rows stand in the same order. A key that moved is seen by its place, also where two
  -- rows have changed keys with each other.
  select cf_a.number, cf_a.keys is distinct from cf_b.keys,
    case when cf_a.number < 9 then exists (
      select from (select row(cf_x.*)::{source} as cf_o from {old_rows} cf_x) cf_p
      join (select row(cf_x.*)::{source} as cf_s from {new_rows} cf_x) cf_q on {same_key_given_s_o}
      where {read_differs}) end
  into cf_count, cf_moved, cf_changed
  from (select count(*) as number, array_agg({key_x}) as keys from cf_old cf_x) cf_a,
    (select array_agg({key_x}) as keys from cf_new cf_x) cf_b;
  if cf_count >= 9 and not cf_moved then
    -- Planned for the number of rows at hand.
    execute {read_differs_many} into cf_changed;
  end if;
  -- Order matters: what the converter does not read must not even lock the other table.
  if cf_count = 0 or not cf_moved and not cf_changed then
    return null;
  end if;
  {fast_update}
  cf_olds := array(select row(cf_x.*)::{source} from {old_rows} cf_x);
  cf_news := array(select row(cf_x.*)::{source} from {new_rows} cf_x);
  if cf_moved then
    -- A counterpart that could not follow stays as it is, for repair to move: a new one beside it
    -- would not have what only the other table holds.
    cf_refused := {function}_move(cf_olds, cf_news);
    cf_olds := array(select cf_olds[n] from generate_subscripts(cf_olds, 1) n
      where n <> all (cf_refused) order by n);
    cf_news := array(select cf_news[n] from generate_subscripts(cf_news, 1) n
      where n <> all (cf_refused) order by n);
  end if;
  if cf_state = 'log' then
    perform crossfade_private.note_keys({pair_literal}, {side}, tg_op,
      array(select {key_json_x} from unnest(cf_news) cf_x));
    return null;
  end if;
  perform {function}_edit(cf_olds, cf_news, cf_depth > 1);
  if cf_moved then
    -- A statement that writes both tables may have put a row here under a key that was left, with
    -- what it wrote into the counterpart before that followed.
    cf_left := array(select row(cf_s.*)::{source}
      from unnest(cf_olds) cf_r join {source} cf_s on {same_key_s_r}
      where not exists (select from {target} cf_t where {same_key_t_s}));
    if cardinality(cf_left) > 0 or coalesce(current_setting({mark}, true), '') <> '' then
      perform {function}_push(cf_olds, cf_news);
    end if;
    perform {function}_put(cf_left, tg_op);
  end if;
  return null;
end $body$;
$text$;

comment on function crossfade_private.mirror_update_text is
  'Body of crossfade_private.mirror_<pair>_v<side>_update: AFTER STATEMENT trigger with the rows before and after as cf_old and cf_new.';

create or replace function crossfade_private.update_many_text(from_new_rows boolean)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$update {target} cf_t set {edits}
        from (select row(cf_x.*)::{source} as cf_o from {old_rows} cf_x) cf_p
        join $body$ || case when from_new_rows
      then '(select row(cf_x.*)::{source} as cf_s from {new_rows} cf_x)' else '{source}' end
    || $body$ cf_s on $body$
    || case when from_new_rows then '{same_key_given_s_o}' else '{same_key_s_o}' end || $body$
        where {same_key_t_s} and ({edited})$body$;
$text$;

comment on function crossfade_private.update_many_text is
  'The statement by which the UPDATE trigger edits the counterparts of many rows: the rows read again, or from_new_rows those of the transition table.';

create or replace function crossfade_private.read_differs_many_text()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$select exists (
      select from (select row(cf_x.*)::{source} as cf_o from {old_rows} cf_x) cf_p
      join (select row(cf_x.*)::{source} as cf_s from {new_rows} cf_x) cf_q on {same_key_given_s_o}
      where {read_differs})$body$;
$text$;

comment on function crossfade_private.read_differs_many_text is
  'The question of the UPDATE trigger whether anything was edited that the converter reads, for many rows.';

create or replace function crossfade_private.fast_update_text()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$if not cf_moved and not cf_nested and cf_state = 'on' then
    begin
      if cf_count < 9 then
        -- SAFETY: not the new row of the transition table. A statement that writes both tables,
        -- also by foreign keys, has mirrored the other one by now.
        update {target} cf_t set {edits}
        from (select row(cf_x.*)::{source} as cf_o from {old_rows} cf_x) cf_p
        join {source} cf_s on {same_key_s_o}
        where {same_key_t_s} and ({edited});
      else
        -- Planned for the number of rows at hand. Where nobody has written the other table in this
        -- transaction, the new rows are the rows.
        execute case when {is_untouched} then {update_many_new} else {update_many} end;
      end if;
      get diagnostics cf_written = row_count;
      if cf_written = cf_count or not exists (
          select from (select row(cf_x.*)::{source} as cf_s from {new_rows} cf_x) cf_q
          where {without_counterpart})
        -- Not edited because a trigger of the owner's dropped the write.
        and not exists (
          select from (select row(cf_x.*)::{source} as cf_o from {old_rows} cf_x) cf_p
          join {source} cf_s on {same_key_s_o}
          join {target} cf_t on {same_key_t_s}
          where {edited}) then
        return null;
      end if;
    exception when others or assert_failure then
      if crossfade_private.is_transient(sqlstate) then
        raise;
      end if;
    end;
  end if;$body$;
$text$;

comment on function crossfade_private.fast_update_text is
  'The part of mirror_update_text that edits all counterparts by one statement. It names every column, so it is not for tables with triggers UPDATE OF columns.';

create or replace function crossfade_private.single_update_text()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$elsif {is_plain} and {counter} > 0 then
    select not ({same_key_given_s_o}), {flags} into cf_moved, {flag_names}
    from (select row(cf_x.*)::{source} as cf_o from {old_rows} cf_x) cf_p
    cross join (select row(cf_x.*)::{source} as cf_s from {new_rows} cf_x) cf_q
    where not exists (select from cf_old offset 1);
    if cf_moved is false then
      -- What the converter does not read must not even lock the other table.
      if not ({any_flag}) then
        return null;
      end if;
      begin
        -- SAFETY: not the new row of the transition table. A statement that writes both tables,
        -- also by foreign keys, has mirrored the other one by now.
        update {target} cf_t set {edits_by_flag}
        from (select row(cf_x.*)::{source} as cf_o from {old_rows} cf_x) cf_p
        join {source} cf_s on {same_key_s_o}
        where {same_key_t_s} and ({edited_by_flag});
        if found then
          return null;
        end if;
      exception when others or assert_failure then
        if crossfade_private.is_transient(sqlstate) then
          raise;
        end if;
      end;
    end if;$body$;
$text$;

comment on function crossfade_private.single_update_text is
  'The part of mirror_update_text for a statement that updated one row: what was edited is asked once, in variables.';

-- mirror/edit.sql ---------------------------------------------------------------------------------

-- The text of the function that brings edits to counterparts when the statement of the UPDATE
-- trigger could not: rows that a trigger wrote again, rows that are refused, rows without a
-- counterpart.

create or replace function crossfade_private.mirror_edit_text()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$
-- {made_by}: edits of rows of V{side}, read again by their keys.
#variable_conflict use_column
declare
  cf_size constant integer := cardinality(cf_news);
  cf_step constant integer := greatest(1, cf_size / 16);
  cf_rows {source}[];
  cf_written bigint;
  cf_constraint text;
begin
  begin
    {edit_statement}
    get diagnostics cf_written = row_count;
    if cf_written < cf_size and exists (
        select from (select unnest(cf_olds) as cf_o, unnest(cf_news) as cf_n) cf_q
        join {source} cf_s on {same_key_s_n}
        join {target} cf_t on {same_key_t_s}
        where {edited}) then
      {raise_dropped}
    end if;
    delete from {target} cf_t
    using unnest(cf_news) cf_r
    where {same_key_t_r} and not exists (
      select from {source} cf_s
      where {same_key_s_r} and exists (select from lateral {convert} cf_c));
    {raise_left_out}
    insert into {target} ({target_columns}) overriding system value
    select {made_columns}
    from (select unnest(cf_olds) as cf_o, unnest(cf_news) as cf_n) cf_q
    join {source} cf_s on {same_key_s_n}
    cross join lateral {convert_now} cf_c
    where not exists (select from {target} cf_t where {same_key_t_s})
      -- Its counterpart is there, under another key: one of the two could not follow the other.
      and not exists (
        select from crossfade.mirror_failures f
        where f.pair = {pair_literal} and f.resolved_at is null and f.moved_to is not null
          and {key_json_s} in (f.key, f.moved_to))
      -- SAFETY: a statement of a trigger may work on a row that is being deleted.
      and (not cf_nested or not exists (select from lateral {convert_old} cf_b));
    if cf_written < cf_size and crossfade_private.is_any_behind({pair_literal}) then
      perform crossfade_private.note_behind({pair_literal}, {side}, 'UPDATE', array(
        select {key_json_s}
        from (select unnest(cf_olds) as cf_o, unnest(cf_news) as cf_n) cf_q
        cross join lateral (select (cf_n).*) cf_s
        where {same_key_given_s_o}));
    end if;
    return;
  exception when others or assert_failure then
    get stacked diagnostics cf_constraint = constraint_name;
    -- A counterpart that was copied after the snapshot of this transaction was taken is not seen
    -- here.
    if sqlstate = '23505' and cf_constraint = any ({target_key_names})
        and current_setting('transaction_isolation') <> 'read committed'
      or crossfade_private.is_transient(sqlstate) then
      raise;
    elsif cf_size = 1 then
      cf_rows := cf_news;
      perform crossfade_private.refuse_or_record(
        {pair_literal}, {side}, {key_json_row}, 'UPDATE', sqlstate, sqlerrm, cf_constraint);
      return;
    end if;
  end;
  for cf_at in 1..cf_size by cf_step loop
    perform {function}_edit(cf_olds[cf_at : cf_at + cf_step - 1],
      cf_news[cf_at : cf_at + cf_step - 1], cf_nested);
  end loop;
end $body$;
$text$;

comment on function crossfade_private.mirror_edit_text is
  'Body of crossfade_private.mirror_<pair>_v<side>_edit(cf_olds, cf_news, cf_nested): all rows at once, then in sixteenths, then one by one; what is refused is recorded.';

create or replace function crossfade_private.raise_left_out_text()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$if exists (
        select from unnest(cf_news) cf_r
        join {target} cf_t on {same_key_t_r}
        where not exists (
          select from {source} cf_s
          where {same_key_s_r} and exists (select from lateral {convert} cf_c))) then
      {raise_dropped}
    end if;$body$;
$text$;

comment on function crossfade_private.raise_left_out_text is
  'The part of mirror_edit_text that looks, for converters that may give no row, whether the counterpart is gone.';

create or replace function crossfade_private.edit_statement_text(by_column boolean)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select case when not by_column then $body$update {target} cf_t set {edits}
    from (select unnest(cf_olds) as cf_o, unnest(cf_news) as cf_n) cf_q
    join {source} cf_s on {same_key_s_n}
    where {same_key_t_s} and ({edited});$body$
  else $body$execute coalesce((
      select {named_head} || string_agg(cf_text, ', ' order by cf_place) || {named_tail}
      from (
        select array[{edited_each}] as cf_edited
        from (select unnest(cf_olds) as cf_o, unnest(cf_news) as cf_n) cf_q
        join {source} cf_s on {same_key_s_n}
        join {target} cf_t on {same_key_t_s}
      ) cf_e
      -- Only columns that were edited are named: triggers of the owner's are for some columns.
      cross join unnest(cf_edited, {edited_texts}) with ordinality cf_u(cf_is, cf_text, cf_place)
      where cf_is having count(*) > 0), 'select') using cf_olds, cf_news;$body$ end;
$text$;

comment on function crossfade_private.edit_statement_text is
  'The statement of mirror_edit_text; by_column for tables with triggers UPDATE OF columns, which must not fire for columns that nobody edited.';

create or replace function crossfade_private.named_tail_text()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$
    from (select unnest($1) as cf_o, unnest($2) as cf_n) cf_q
    join {source} cf_s on {same_key_s_n}
    where {same_key_t_s} and ({edited})$body$;
$text$;

comment on function crossfade_private.named_tail_text is
  'What follows the columns in the statement that edit_statement_text builds by column.';

-- mirror/move.sql ---------------------------------------------------------------------------------

-- The texts of the functions that follow a changed key.

create or replace function crossfade_private.mirror_move_text()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$
-- {made_by}: counterparts follow keys that changed in V{side}.
#variable_conflict use_column
declare
  cf_move record;
  cf_from {source};
  cf_to {source};
  cf_further jsonb;
  cf_constraint text;
  cf_refused integer[] := '{}'::integer[];
  -- Keys are followed also while all else is only noted, and then no client is refused for it.
  cf_noting constant boolean := {state} = 'log';
  cf_is_another boolean;
  cf_is_stale boolean;
begin
  -- In the order in which the statement moved them: at each step the new key was free.
  for cf_move in
    select unnest(cf_olds) as cf_o, unnest(cf_news) as cf_n,
      generate_subscripts(cf_olds, 1) as cf_place
  loop
    cf_from := cf_move.cf_o;
    cf_to := cf_move.cf_n;
    continue when {same_key_moved};
    cf_is_another := cf_noting
      and crossfade_private.is_noted_delete({pair_literal}, {side}, {key_json_from});
    cf_is_stale := cf_noting
      and crossfade_private.is_noted_delete({pair_literal}, {side}, {key_json_to});
    perform crossfade_private.move_failure({pair_literal}, {key_json_from}, {key_json_to});
    begin
      if cf_is_stale then
        -- The row that had the key was deleted, which was only noted: its counterpart goes now.
        delete from {target} cf_t where {same_key_t_to};
        if not cf_is_another then
          perform crossfade_private.forget_noted_delete({pair_literal}, {key_json_to});
        end if;
      end if;
      -- Where a trigger of the owner's wrote the moved row, a counterpart was made of it: it is of
      -- this transaction and does not differ. One that was there before is another row.
      delete from {target} cf_t using {source} cf_s
      where {same_key_t_to} and {same_key_s_to}
        and crossfade_private.is_of_this_transaction(cf_t.xmin)
        and exists (select from lateral {convert} cf_c where not ({differs}))
        and exists (select from {target} cf_t where {same_key_t_from});
      {drop_what_is_left_out}
      {move_statement}
      if not found then
        if exists (select from {target} cf_t where {same_key_t_from}) then
          {raise_dropped}
        end if;
        -- An outer statement has still to bring it here: it looks for this note.
        perform crossfade_private.note_move({moves}, {key_json_from}, {key_json_to});
        if current_setting('transaction_isolation') <> 'read committed' then
          perform crossfade_private.note_unseen(
            {pair_literal}, {side}, 'MOVE', array[{key_json_from}]);
        end if;
        continue;
      end if;
      cf_further := crossfade_private.noted_move({moves}, {key_json_to});
      if cf_further is not null
        and not exists (select from {source} cf_s where {same_key_s_to})
        and exists (select from {source} cf_s where {same_key_s_further}) then
        {move_further_statement}
      end if;
    exception when others or assert_failure then
      get stacked diagnostics cf_constraint = constraint_name;
      if crossfade_private.is_transient(sqlstate)
        or sqlstate = '23505' and cf_constraint = any ({target_key_names}) then
        raise;
      end if;
      if cf_noting then
        perform crossfade_private.record_failure(
          {pair_literal}, {side}, {key_json_to}, 'MOVE', sqlstate, sqlerrm);
      else
        perform crossfade_private.refuse_or_record(
          {pair_literal}, {side}, {key_json_to}, 'MOVE', sqlstate, sqlerrm, cf_constraint);
      end if;
      -- The row under the old key is left behind: repair has to hear of it as well.
      perform crossfade_private.record_failure(
        {pair_literal}, {side}, {key_json_from}, 'MOVE', sqlstate, sqlerrm, {key_json_to});
      cf_refused := cf_refused || cf_move.cf_place;
    end;
  end loop;
  return cf_refused;
end $body$;
$text$;

comment on function crossfade_private.mirror_move_text is
  'Body of crossfade_private.mirror_<pair>_v<side>_move(cf_olds, cf_news): the counterpart is updated and keeps what only it holds; 23505 when the new key is another row''s. Returns the places of those that could not be moved, which are recorded.';

create or replace function crossfade_private.drop_what_is_left_out_text()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$-- A row that the converter leaves out under its new key has no counterpart any more.
      if exists (select from {source} cf_s where {same_key_s_to}) and not exists (
        select from {source} cf_s cross join lateral {convert_now} cf_c
        where {same_key_s_to}) then
        delete from {target} cf_t where {same_key_t_from};
        if exists (select from {target} cf_t where {same_key_t_from}) then
          {raise_dropped}
        end if;
        continue;
      end if;$body$;
$text$;

comment on function crossfade_private.drop_what_is_left_out_text is
  'The part of mirror_move_text for converters that may give no row.';

create or replace function crossfade_private.mirror_push_text()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$
-- {made_by}: what triggers wrote into V{other} under the old key comes back to V{side}.
#variable_conflict use_column
declare
  cf_wanted bigint;
  cf_written bigint;
  cf_constraint text;
begin
  select count(*) into cf_wanted
  from unnest(cf_news) cf_r
  join {target} cf_t on {same_key_t_r} join {source} cf_s on {same_key_s_t}
  where exists (select from lateral {convert_back} cf_c where {differs_back});
  update {source} cf_s set {whole_back}
  from (select unnest(cf_olds) as cf_o, unnest(cf_news) as cf_r) cf_q
  join {target} cf_t on {same_key_t_r}
  where {same_key_s_t} and exists (select from lateral {convert_back} cf_c where {differs_back});
  get diagnostics cf_written = row_count;
  if cf_written < cf_wanted then
    {raise_dropped_back}
  end if;
exception when others or assert_failure then
  get stacked diagnostics cf_constraint = constraint_name;
  if crossfade_private.is_transient(sqlstate) then
    raise;
  end if;
  perform crossfade_private.refuse_or_record(
    {pair_literal}, {other}, {key_json_x}, 'MOVE', sqlstate, sqlerrm, cf_constraint)
  from unnest(cf_news) cf_x;
end $body$;
$text$;

comment on function crossfade_private.mirror_push_text is
  'Body of crossfade_private.mirror_<pair>_v<side>_push(cf_olds, cf_news): after a move, edits of the counterpart that a nested statement made while it had the old key.';

-- mirror/delete.sql -------------------------------------------------------------------------------

-- The texts of the functions that mirror DELETE and TRUNCATE.

create or replace function crossfade_private.mirror_delete_text()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$
-- {made_by}: rows deleted from V{side}.
#variable_conflict use_column
declare
  cf_depth integer;
  cf_state text;
  cf_nested boolean;
  cf_number bigint;
  cf_context text;
  cf_count bigint;
  cf_written bigint;
  cf_unseen jsonb[];
begin
  cf_depth := pg_trigger_depth();
  if cf_depth > 1 then
    {read_context}
    if {own_write} then
      return null;
    end if;
  end if;
  cf_state := {state};
  if cf_state in ('off', 'archive') or {engine_write} then
    return null;
  end if;
  cf_number := {counter};
  cf_nested := {nested};
  if cf_state = 'log' then
    perform crossfade_private.note_keys({pair_literal}, {side}, tg_op,
      array(select {key_json_x} from cf_old cf_x));
    return null;
  end if;
  select count(*) into cf_count from cf_old;
  if current_setting('transaction_isolation') <> 'read committed' then
    -- A copy made after the snapshot of this transaction is not visible here; it would outlive the
    -- row.
    cf_unseen := array(select {key_json_r} from cf_old cf_r
      where not exists (select from {target} cf_t where {same_key_t_r}));
  end if;
  begin
    -- Not where the row is there again: a trigger of the owner's may have put it back.
    if cf_count < 9 then
      delete from {target} cf_t using cf_old cf_r
      where {same_key_t_r} and not exists (select from {source} cf_s where {same_key_s_r});
    else
      execute {delete_many};
    end if;
    get diagnostics cf_written = row_count;
    if cf_written < cf_count then
      -- As a rule the counterparts have gone before: a foreign key deleted them with their parent.
      if exists (select from cf_old cf_r join {source} cf_s on {same_key_s_r}) then
        -- Another row has the key now: it must not inherit what only the other table held of the
        -- old. A counterpart that was already made of that row does not differ.
        delete from {target} cf_t using cf_old cf_r, {source} cf_s
        where {same_key_t_r} and {same_key_s_r}
          and not exists (select from lateral {convert} cf_c where not ({differs}));
        perform {function}_put(array(select row(cf_s.*)::{source}
          from {source} cf_s join cf_old cf_r on {same_key_s_r}), tg_op);
      end if;
      -- Counterparts first (offset 0): as a rule there are none, and nothing else is looked up.
      if exists (
          select from (select cf_r.* from cf_old cf_r join {target} cf_t on {same_key_t_r} offset 0)
            cf_r
          where not exists (select from {source} cf_s where {same_key_s_r})) then
        {raise_dropped}
      end if;
      if crossfade_private.is_any_behind({pair_literal}) then
        perform crossfade_private.note_behind({pair_literal}, {side}, tg_op,
          array(select {key_json_r} from cf_old cf_r));
      end if;
    end if;
    if cardinality(cf_unseen) > 0 then
      perform crossfade_private.note_unseen(
        {pair_literal}, {side}, 'DELETE', cf_unseen);
    end if;
    return null;
  exception when others or assert_failure then
    if crossfade_private.is_transient(sqlstate) then
      raise;
    end if;
  end;
  perform {function}_remove(array(select row(cf_x.*)::{source} from {old_rows} cf_x));
  return null;
end $body$;
$text$;

comment on function crossfade_private.mirror_delete_text is
  'Body of crossfade_private.mirror_<pair>_v<side>_delete: AFTER STATEMENT trigger with the deleted rows as cf_old.';

create or replace function crossfade_private.delete_many_text()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$delete from {target} cf_t using cf_old cf_r
      where {same_key_t_r} and not exists (select from {source} cf_s where {same_key_s_r})$body$;
$text$;

comment on function crossfade_private.delete_many_text is
  'The statement by which the DELETE trigger deletes many counterparts.';

create or replace function crossfade_private.mirror_remove_text()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$
-- {made_by}: counterparts of rows deleted from V{side}, some of which cannot be deleted.
#variable_conflict use_column
declare
  cf_size constant integer := cardinality(cf_rows);
  cf_step constant integer := greatest(1, cf_size / 16);
  cf_written bigint;
  cf_constraint text;
begin
  begin
    delete from {target} cf_t using unnest(cf_rows) cf_r
    where {same_key_t_r} and not exists (select from {source} cf_s where {same_key_s_r});
    get diagnostics cf_written = row_count;
    if cf_written < cf_size and exists (
        select from unnest(cf_rows) cf_r join {target} cf_t on {same_key_t_r}
        where not exists (select from {source} cf_s where {same_key_s_r})) then
      {raise_dropped}
    end if;
    return;
  exception when others or assert_failure then
    get stacked diagnostics cf_constraint = constraint_name;
    if crossfade_private.is_transient(sqlstate) then
      raise;
    elsif cf_size = 1 then
      perform crossfade_private.refuse_or_record(
        {pair_literal}, {side}, {key_json_row}, 'DELETE', sqlstate, sqlerrm, cf_constraint);
      return;
    end if;
  end;
  for cf_at in 1..cf_size by cf_step loop
    perform {function}_remove(cf_rows[cf_at : cf_at + cf_step - 1]);
  end loop;
end $body$;
$text$;

comment on function crossfade_private.mirror_remove_text is
  'Body of crossfade_private.mirror_<pair>_v<side>_remove(cf_rows): all rows at once, then in sixteenths, then one by one; what is refused is recorded.';

create or replace function crossfade_private.mirror_truncate_text()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$
-- {made_by}: V{side} is truncated.
#variable_conflict use_column
declare
  cf_depth integer;
  cf_state text;
  cf_nested boolean;
  cf_number bigint;
  cf_context text;
  cf_constraint text;
begin
  cf_depth := pg_trigger_depth();
  if cf_depth > 1 then
    {read_context}
    if {own_write} then
      return null;
    end if;
  end if;
  cf_state := {state};
  if cf_state in ('off', 'archive') or {engine_write} then
    return null;
  end if;
  if tg_when = 'BEFORE' then
    cf_number := {counter};
  end if;
  cf_nested := {nested};
  -- Also while changes are only noted: afterwards there is no key to note.
  if tg_when = 'BEFORE' then
    -- Only the rows that are still there tell which rows of the other table have a counterpart: one
    -- that is not copied yet, or was refused, is nobody's to empty.
    if current_setting('transaction_isolation') <> 'read committed' then
      perform crossfade_private.refuse_blind_truncate({pair_literal}, {source_literal});
    else
      insert into crossfade_private.truncated_keys (pair, side, key)
      select {pair_literal}, {side}, {key_json_t}
      from {target} cf_t join {source} cf_s on {same_key_s_t};
      -- A counterpart that could not follow a changed key has another one.
      if crossfade_private.is_any_behind({pair_literal}) then
        perform crossfade_private.note_behind({pair_literal}, {side}, 'DELETE', array(
          select {key_json_s} from {source} cf_s
          where {key_json_s} in (
            select k from crossfade.mirror_failures f cross join unnest(array[f.key, f.moved_to]) k
            where f.pair = {pair_literal} and f.resolved_at is null and f.moved_to is not null)));
      end if;
    end if;
    return null;
  end if;
  if current_setting('transaction_isolation') <> 'read committed' then
    -- It also removes rows younger than the snapshot, which DELETE would not see. The same command
    -- may have emptied both tables.
    if pg_relation_size({target_literal}) > 0 then
      truncate {target};
    end if;
    return null;
  end if;
  begin
    -- After the files are emptied: checks that wait for COMMIT look for no row of theirs. DELETE
    -- takes no exclusive lock on the other table and knows its cascades.
    delete from {target} cf_t using crossfade_private.truncated_keys cf_k
    where cf_k.pair = {pair_literal} and cf_k.side = {side} and cf_k.key = {key_json_t}
      and not exists (select from {source} cf_s where {same_key_s_t});
    if exists (
        select from {target} cf_t join crossfade_private.truncated_keys cf_k
        on cf_k.pair = {pair_literal} and cf_k.side = {side} and cf_k.key = {key_json_t}
        where not exists (select from {source} cf_s where {same_key_s_t})) then
      {raise_dropped}
    end if;
  exception when others or assert_failure then
    get stacked diagnostics cf_constraint = constraint_name;
    if crossfade_private.is_transient(sqlstate) then
      raise;
    end if;
    perform crossfade_private.refuse_or_record(
      {pair_literal}, {side}, {key_json_t}, tg_op, sqlstate, sqlerrm, cf_constraint)
    from {target} cf_t join crossfade_private.truncated_keys cf_k
      on cf_k.pair = {pair_literal} and cf_k.side = {side} and cf_k.key = {key_json_t};
  end;
  delete from crossfade_private.truncated_keys cf_k
  where cf_k.pair = {pair_literal} and cf_k.side = {side};
  return null;
end $body$;
$text$;

comment on function crossfade_private.mirror_truncate_text is
  'Body of crossfade_private.mirror_<pair>_v<side>_truncate: BEFORE TRUNCATE trigger, which notes the counterparts of the rows that are there, and AFTER TRUNCATE trigger, which deletes them, and no other row.';

-- mirror/settle.sql -------------------------------------------------------------------------------

-- The texts of two row triggers for tables with BEFORE ROW triggers of their owner (updated_at,
-- slugs, counters): what the mirror, a copy or a repair assigned stands, whatever those compute.

create or replace function crossfade_private.mirror_first_text()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$
-- {made_by}: keeps a row of V{side} as the mirror assigned it, before triggers of the owner's.
declare
  cf_depth constant integer := pg_trigger_depth();
  cf_context text;
begin
  {read_context}
  perform set_config({kept} || cf_depth, case when {own_write} then new::text else '' end, true);
  return new;
end $body$;
$text$;

comment on function crossfade_private.mirror_first_text is
  'Body of crossfade_private.mirror_<pair>_v<side>_first: BEFORE ROW trigger that fires first by its name.';

create or replace function crossfade_private.mirror_last_text()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$
-- {made_by}: puts the columns that the converter makes back into a row of V{side}.
declare
  cf_kept constant text := current_setting({kept} || pg_trigger_depth(), true);
  cf_row {source};
begin
  if cf_kept <> '' then
    cf_row := cf_kept::{source};
    {put_back}
    perform set_config({kept} || pg_trigger_depth(), '', true);
  end if;
  return new;
end $body$;
$text$;

comment on function crossfade_private.mirror_last_text is
  'Body of crossfade_private.mirror_<pair>_v<side>_last: BEFORE ROW trigger that fires last by its name. What only this table holds stays as its owner''s triggers computed it.';

create or replace function crossfade_private.mirror_key_text()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$
-- {made_by}: gives a row of V{side} the key that its counterpart moved to.
declare
  cf_depth constant integer := pg_trigger_depth();
  cf_context text;
  cf_key constant jsonb := current_setting({new_key}, true)::jsonb;
begin
  {read_context}
  if {own_write} then
    {assign_key}
  end if;
  -- For one row only: a statement that this one causes must not move another.
  perform set_config({new_key}, '', true);
  return new;
end $body$;
$text$;

comment on function crossfade_private.mirror_key_text is
  'Body of crossfade_private.mirror_<pair>_v<side>_key: BEFORE ROW trigger for keys that are GENERATED ALWAYS AS IDENTITY, which no UPDATE may set. Deleting and inserting instead would cascade.';

-- mirror/row_pieces.sql ---------------------------------------------------------------------------

-- SQL fragments about rows, keys and columns, quoted when they are made. Aliases and variables
-- begin with cf_; columns may not.

create or replace function crossfade_private.text_settings()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select 'set timezone = ''UTC'' set datestyle = ''ISO, MDY'' set intervalstyle = ''postgres''
    set extra_float_digits = 1 set bytea_output = ''hex'''::text;
$$;

comment on function crossfade_private.text_settings is
  'The settings on which the text of values depends, as clauses of a function: those by which converters are printed.';

create or replace function crossfade_private.key_sql(
  one_sql text, one_key text[], other_sql text, other_key text[]
)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select string_agg(format('%s.%I = %s.%I', one_sql, a, other_sql, b), ' and ' order by n)
  from unnest(one_key, other_key) with ordinality u(a, b, n);
$$;

comment on function crossfade_private.key_sql is
  'SQL that says whether two rows have the same key.';

create or replace function crossfade_private.row_key_sql(row_sql text, key text[])
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select case when cardinality(key) = 1 then k else 'row(' || k || ')' end
  from (select string_agg(format('%s.%I', row_sql, c), ', ' order by n) k
    from unnest(key) with ordinality u(c, n)) q;
$$;

comment on function crossfade_private.row_key_sql is
  'SQL of a row''s key as one value.';

create or replace function crossfade_private.stored_rows_sql(tab regclass, transition text)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- A transition table has nulls for virtual generated columns (PostgreSQL 18).
  select case when bool_or(a.attgenerated = 'v') then
    format('(select %s from %s)', string_agg(case when a.attgenerated = 'v'
      then format('%s as %I', pg_get_expr(d.adbin, d.adrelid), a.attname)
      else quote_ident(a.attname) end, ', ' order by a.attnum), transition)
    else transition end
  from pg_catalog.pg_attribute a
  left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
  where a.attrelid = tab and a.attnum > 0 and not a.attisdropped;
$$;

comment on function crossfade_private.stored_rows_sql is
  'An item of FROM with the rows of a transition table as the table itself shows them.';

create or replace function crossfade_private.any_differs_sql(
  tab regclass, columns text[], one_sql text, other_sql text
)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(string_agg(crossfade_private.differs_sql(a.atttypid,
    format('%s.%I', one_sql, a.attname), format('%s.%I', other_sql, a.attname)), ' or '
    order by a.attnum), 'false')
  from pg_catalog.pg_attribute a
  where a.attrelid = tab and a.attnum > 0 and not a.attisdropped
    and (columns is null or a.attname = any (columns));
$$;

comment on function crossfade_private.any_differs_sql is
  'SQL that says whether two rows of a table differ in any of the columns; null means all.';

create or replace function crossfade_private.unique_key_names(tab regclass, key text[])
returns text[]
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(array_agg(c.relname::text order by c.relname), '{}')
  from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid
  where i.indrelid = tab and i.indisunique and i.indexprs is null
    and (select array_agg(a.attname::text order by a.attname)
         from pg_catalog.pg_attribute a
         where a.attrelid = tab and a.attnum = any (i.indkey[0:i.indnkeyatts - 1]))
      = (select array_agg(k order by k) from unnest(key) k);
$$;

comment on function crossfade_private.unique_key_names is
  'Names of the unique indexes, which are those of their constraints, on exactly the key.';

-- mirror/edit_pieces.sql --------------------------------------------------------------------------

-- The SQL fragments that bring edits of a row to its counterpart.

create or replace function crossfade_private.edited_columns(
  conversion jsonb, source regclass, target regclass, target_key text[]
)
returns table (name text, edited text, made text, differs text, reads text[])
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- In an update cf_o is the row before, cf_s the row read again and cf_t its counterpart.
  select c.name,
    crossfade_private.any_differs_sql(source,
      (select array_agg(r) from jsonb_array_elements_text(c.reads) r), '(cf_o)', '(cf_s)'),
    c.made,
    crossfade_private.differs_sql(a.atttypid, format('(cf_t).%I', c.name), c.made),
    (select array_agg(r) from jsonb_array_elements_text(c.reads) r)
  from (
    select w.c ->> 'name' as name, nullif(i -> 'reads', 'null') as reads,
      format('(%s)::%s', crossfade_private.fill_item(i ->> 'text', 'cf_s', 'cf_t'),
        w.c ->> 'type') as made, n
    from jsonb_array_elements(nullif(conversion -> 'items', 'null')) with ordinality u(i, n)
    join jsonb_array_elements(conversion -> 'columns') with ordinality w(c, n) using (n)
  ) c
  join pg_catalog.pg_attribute a on a.attrelid = target and a.attname = c.name
  where c.reads is distinct from '[]' and a.attgenerated = '' and a.attidentity <> 'a'
    and c.name <> all (target_key)
  order by c.n;
$$;

comment on function crossfade_private.edited_columns is
  'For a converter that is a bare select list: the target''s columns that are made of the source''s, SQL whether an update edited what they are made of, what they become, and whether that differs from what is there.';

create or replace function crossfade_private.flag_pieces(
  conversion jsonb, source regclass, target regclass, target_key text[]
)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with edited as (
    select e.*, row_number() over () place
    from crossfade_private.edited_columns(conversion, source, target, target_key) e
  ),
  flag as (
    select r as name, 'cf_e' || row_number() over (order by r) as flag
    from (select distinct unnest(e.reads) r from edited e) d
  )
  select case when bool_or(e.reads is null) or count(*) = 0 then '{}' else jsonb_build_object(
    'flags_declared', (select string_agg(f.flag || ' boolean;', ' ' order by f.flag) from flag f),
    'flag_names', (select string_agg(f.flag, ', ' order by f.flag) from flag f),
    'any_flag', (select string_agg(f.flag, ' or ' order by f.flag) from flag f),
    'flags', (
      select string_agg(
        crossfade_private.any_differs_sql(source, array[f.name], '(cf_o)', '(cf_s)'),
        ', ' order by f.flag) from flag f),
    'edits_by_flag', string_agg(format('%I = case when %s then %s else (cf_t).%1$I end', e.name,
      g.flags, e.made), ', ' order by e.place),
    'edited_by_flag', string_agg(
      format('(%s) and %s', g.flags, e.differs), ' or ' order by e.place))
    end
  from edited e
  cross join lateral (
    select string_agg(f.flag, ' or ' order by f.flag) flags from flag f where f.name = any (e.reads)
  ) g;
$$;

comment on function crossfade_private.flag_pieces is
  'The fragments of update_pieces for one updated row, with a variable for each column that the converter reads; empty where it reads the row as a whole or writes no column of its own.';

create or replace function crossfade_private.update_pieces(
  conversion jsonb, source regclass, target regclass, target_key text[]
)
returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_columns text[] := crossfade_private.writable_columns(
    target, target_key || crossfade_private.always_identity(target));
  v_pieces jsonb;
begin
  if conversion -> 'items' <> 'null' then
    -- SAFETY: only what was edited. Whole rows would put old values over edits of the counterpart
    -- that are under way, by another client or by an outer statement of this one.
    select jsonb_build_object(
      'edits', coalesce(string_agg(format('%I = case when %s then %s else (cf_t).%1$I end', e.name,
        e.edited, e.made), ', '), format('%I = (cf_t).%1$I', target_key[1])),
      'edited', coalesce(string_agg(format('(%s) and %s', e.edited, e.differs), ' or '), 'false'),
      'edited_names', coalesce(array_to_json(array_agg(e.name)), '[]'),
      'edited_each', coalesce(string_agg(format('bool_or((%s) and %s)', e.edited, e.differs), ', '),
        'null::boolean'),
      'edited_texts', coalesce(json_agg(format('%I = case when %s then %s else (cf_t).%1$I end',
        e.name, e.edited, e.made)), '[]'))
    into v_pieces
    from crossfade_private.edited_columns(conversion, source, target, target_key) e;
    return v_pieces || crossfade_private.flag_pieces(conversion, source, target, target_key);
  end if;
  return (
    select jsonb_build_object(
      'edits', format('(%s) = (select %s from %s)', string_agg(quote_ident(a.attname), ', '
        order by a.attnum), string_agg(format('case when %s then cf_c.%I else (cf_t).%2$I end',
        d.edited, a.attname), ', ' order by a.attnum), f.both_rows),
      'edited', format('exists (select from %s where %s)', f.both_rows, string_agg(
        format('(%s) and %s', d.edited, d.differs), ' or ' order by a.attnum)),
      'edited_names', json_agg(a.attname order by a.attnum),
      'edited_each', string_agg(format('bool_or(exists (select from %s where (%s) and %s))',
        f.both_rows, d.edited, d.differs), ', ' order by a.attnum),
      'edited_texts', json_agg(format(
        '%1$I = (select case when %2$s then cf_c.%1$I else (cf_t).%1$I end from %3$s)', a.attname,
        d.edited, f.both_rows) order by a.attnum))
    from pg_catalog.pg_attribute a
    cross join lateral (
      select crossfade_private.differs_sql(a.atttypid,
          format('cf_b.%I', a.attname), format('cf_c.%I', a.attname)) edited,
        crossfade_private.differs_sql(a.atttypid,
          format('(cf_t).%I', a.attname), format('cf_c.%I', a.attname)) differs
    ) d
    cross join (
      select format('%s cf_c left join lateral %s cf_b on true',
        'lateral ' || crossfade_private.convert_sql(conversion, 'cf_s', 'cf_t'),
        crossfade_private.convert_sql(conversion, 'cf_o', 'cf_t')) both_rows
    ) f
    where a.attrelid = target and a.attname = any (v_columns)
    group by f.both_rows);
end $$;

comment on function crossfade_private.update_pieces is
  'Fragments that bring edits of a source row (cf_o before, cf_s now) to its counterpart cf_t: edits (for SET), edited (for WHERE), and the same column by column.';

-- mirror/move_pieces.sql --------------------------------------------------------------------------

-- The SQL fragments that give a counterpart another key, and that keep what the mirror assigned.

create or replace function crossfade_private.move_pieces(
  pair crossfade.pairs, side integer, source regclass, target regclass, key text[],
  target_key text[]
)
returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_from text := crossfade_private.key_sql('(cf_t)', target_key, '(cf_from)', key);
  v_to text := crossfade_private.key_sql('(cf_t)', target_key, '(cf_to)', key);
  v_setting text := format('crossfade.key_%s_v%s', (pair).name, 3 - side);
  -- Only to a key that a row of the source has.
  v_further jsonb := jsonb_build_object('same_key_s_further', (
    select string_agg(format('(cf_s).%I = (cf_further ->> %L)::%s', s, name,
      crossfade_private.base_type_name(a.atttypid)), ' and ' order by n)
    from unnest(key, (pair).key_columns) with ordinality u(s, name, n)
    join pg_catalog.pg_attribute a on a.attrelid = source and a.attname = s));
  v_any text := (crossfade_private.writable_columns(
    target, target_key || crossfade_private.always_identity(target)))[1];
begin
  if crossfade_private.always_identity(target) && target_key then
    -- The trigger function mirror_key_text sets the key: an UPDATE may not.
    return v_further || jsonb_build_object(
      'move_statement', format(
        'perform set_config(%L, (%s)::text, true);
      update %s cf_t set %I = (cf_t).%4$I where %s;', v_setting,
        crossfade_private.key_to_json((pair).key_columns, source, key, '(cf_to)'),
        target, coalesce(v_any, target_key[1]), v_from),
      'move_further_statement', format(
        'perform set_config(%L, cf_further::text, true);
        update %s cf_t set %I = (cf_t).%3$I where %s;', v_setting, target,
        coalesce(v_any, target_key[1]), v_to));
  end if;
  return (
    select v_further || jsonb_build_object(
      'move_statement', format('update %s cf_t set %s where %s;', target,
        string_agg(format('%I = (cf_to).%I', t, s), ', ' order by n), v_from),
      'move_further_statement', format('update %s cf_t set %s where %s;', target,
        string_agg(format('%I = (cf_further ->> %L)::%s', t, name,
          crossfade_private.base_type_name(a.atttypid)), ', ' order by n), v_to))
    from unnest(target_key, key, (pair).key_columns) with ordinality u(t, s, name, n)
    join pg_catalog.pg_attribute a on a.attrelid = target and a.attname = t);
end $$;

comment on function crossfade_private.move_pieces is
  'The statements that give a counterpart another key.';

create or replace function crossfade_private.settle_pieces(
  conversion jsonb, tab regclass, key text[], names text[]
)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'put_back', coalesce(string_agg(format('new.%I := cf_row.%1$I;', a.attname), E'\n    '
      order by a.attnum) filter (where case
        -- Such a key moves by the trigger of mirror_key_text, all of it.
        when a.attname = any (key) then not crossfade_private.always_identity(tab) && key
        else conversion -> 'items' = 'null' or i.item -> 'reads' <> '[]' end), 'null;'),
    'assign_key', coalesce(string_agg(format('new.%I := (cf_key ->> %L)::%s;', a.attname,
      names[array_position(key, a.attname::text)], crossfade_private.base_type_name(a.atttypid)),
      E'\n    ' order by a.attnum) filter (where a.attname = any (key)), 'null;'))
  from pg_catalog.pg_attribute a
  left join (
    select w.c ->> 'name' as name, u.i as item
    from jsonb_array_elements(nullif(conversion -> 'items', 'null')) with ordinality u(i, n)
    join jsonb_array_elements(conversion -> 'columns') with ordinality w(c, n) using (n)
  ) i on i.name = a.attname
  where a.attrelid = tab and a.attnum > 0 and not a.attisdropped and a.attgenerated = '';
$$;

comment on function crossfade_private.settle_pieces is
  'Assignments of the row triggers of a table whose rows the conversion makes: the columns that it makes of the other table''s.';

-- mirror/counting.sql -----------------------------------------------------------------------------

-- Counting who writes which table: sequences, by side and source.

create or replace function crossfade_private.counter_name(pair text, side integer, source text)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select format('crossfade_private.writes_%s_v%s_%s', pair, side, source);
$$;

comment on function crossfade_private.counter_name is
  'Name of the sequence that counts the statements of one source that write one side of a pair.';

create or replace function crossfade_private.counters(pair text)
returns table (side integer, source text, name text)
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select s.side, o.source, crossfade_private.counter_name(pair, s.side, o.source)
  from generate_series(1, 2) s(side)
  cross join unnest(array['user', 'service', 'direct']) o(source);
$$;

comment on function crossfade_private.counters is 'The counters of a pair.';

create or replace function crossfade_private.make_counters(pair text, side integer)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_name text;
begin
  -- A sequence waits for nobody and counts what is rolled back, too. Unlogged: a crash makes it
  -- begin anew, which sample_writes notices, and a write costs no log.
  for v_name in
    select c.name from crossfade_private.counters(pair) c
    where c.side = make_counters.side and to_regclass(c.name) is null
  loop
    execute format('create unlogged sequence %s', v_name);
  end loop;
end $$;

comment on function crossfade_private.make_counters is
  'Create the counters of one side of a pair that are not there.';

create or replace function crossfade_private.drop_counters(pair text)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_name text;
begin
  for v_name in select c.name from crossfade_private.counters(pair) c loop
    execute format('drop sequence if exists %s', v_name);
  end loop;
end $$;

comment on function crossfade_private.drop_counters is 'Remove the counters of a pair.';

create or replace function crossfade_private.counter_sql(pair text, side integer)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  -- The setting still names who came through the Data API; current_user is the definer here.
  select format('nextval(case current_setting(''role'', true) '
    'when ''authenticated'' then %1$L::regclass when ''anon'' then %1$L::regclass '
    'when ''service_role'' then %2$L::regclass else %3$L::regclass end)',
    crossfade_private.counter_name(pair, side, 'user'),
    crossfade_private.counter_name(pair, side, 'service'),
    crossfade_private.counter_name(pair, side, 'direct'));
$$;

comment on function crossfade_private.counter_sql is
  'The expression that counts a statement by where it comes from. On one line: own_frame counts those of the texts.';

-- mirror/pieces.sql -------------------------------------------------------------------------------

-- Everything that the texts of a pair's mirror functions ask for.

create or replace function crossfade_private.own_frame(
  pair text, writer_side integer, name text, body text, marker text
)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  -- Lines are counted from the first one, which is empty.
  select format('PL/pgSQL function crossfade_private.mirror_%s_v%s_%s() line %s at SQL statement',
    pair, writer_side, name, length(head) - length(replace(head, e'\n', '')) + 1)
  from (select split_part(body, marker, 1) head) h;
$$;

comment on function crossfade_private.own_frame is
  'The outermost line of the call stack while a mirror trigger runs its common statement, which is the one behind a marker in its text. Where a line is not the same (other words for messages, names with line breaks) is_own_write finds out more slowly.';

create or replace function crossfade_private.raise_dropped_sql(target_table text)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select format('raise exception using errcode = ''CF017'', message = %L;',
    format('a trigger or rule of %s dropped a mirrored write', target_table));
$$;

comment on function crossfade_private.raise_dropped_sql is
  'The statement that tells that fewer rows were written than should have been.';

create or replace function crossfade_private.name_pieces(pair crossfade.pairs, side integer)
returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'pair', (pair).name, 'pair_literal', quote_literal((pair).name),
    'side', side, 'other', 3 - side,
    'source', t.names[side], 'target', t.names[3 - side],
    'source_literal', quote_literal(t.names[side]),
    'target_literal', quote_literal(t.names[3 - side]),
    'raise_dropped', crossfade_private.raise_dropped_sql(t.names[3 - side]),
    'raise_dropped_back', crossfade_private.raise_dropped_sql(t.names[side]),
    'function', format('crossfade_private.mirror_%s_v%s', (pair).name, side),
    'made_by', format('crossfade %s: mirror of pair "%s"', crossfade_private.generator(),
      (pair).name),
    'mark', quote_literal('crossfade.mark_' || (pair).name),
    'state', format('case when pg_sequence_last_value(%L) = %s_change() then %2$s_state()
    else crossfade_private.read_state(%L, %s) end',
      format('crossfade_private.mirror_%s_changes', (pair).name),
      format('crossfade_private.mirror_%s_v%s', (pair).name, side), (pair).name, side),
    'nested', format('(cf_depth > 1 or coalesce(current_setting(%1$L, true), '''') <> '''')
    and crossfade_private.note_nested(%1$L, cf_depth)', 'crossfade.mark_' || (pair).name),
    -- One line: own_frame counts those of the texts.
    'is_plain', format('pg_sequence_last_value(%L) = %s_change() and %2$s_state() = ''on'' '
      'and coalesce(current_setting(%L, true), '''') = ''''',
      format('crossfade_private.mirror_%s_changes', (pair).name),
      format('crossfade_private.mirror_%s_v%s', (pair).name, side),
      'crossfade.mark_' || (pair).name),
    'counter', crossfade_private.counter_sql((pair).name, side),
    -- What a trigger of the owner's writes meanwhile, deeper, is news.
    'engine_write', format('cf_depth = 1
    and coalesce(current_setting(%L, true), '''') = ''engine''
    and crossfade_private.is_engine_write(%L)', 'crossfade.mark_' || (pair).name, (pair).name),
    -- A session that wants every name in quotes compiles functions with such names. In quotes of
    -- their own these would be doubled, so no other name can look like it.
    'read_context', format('get diagnostics cf_context = pg_context;
    if strpos(cf_context, %L) > 0 then
      cf_context := regexp_replace(cf_context, %L, %L, ''g'');
    end if;', format('"crossfade_private"."mirror_%s_v', (pair).name),
      format('"crossfade_private"\."(mirror_%s_v[12]_[a-z]+)"\(', (pair).name),
      'crossfade_private.\1('),
    -- The same as is_own_write finds at depth 2, without a call.
    'own_write', format('cf_depth = 2 and strpos(split_part(cf_context, e''\n'', -1), %L) > 0
      and strpos(split_part(cf_context, e''\n'', -1), ''"'') = 0
      or crossfade_private.is_own_write(cf_context, cf_depth, %L, %s)',
      format(' crossfade_private.mirror_%s_v%s_', (pair).name, 3 - side), (pair).name, 3 - side),
    'own_insert', quote_literal(crossfade_private.own_frame((pair).name, 3 - side, 'insert',
      crossfade_private.mirror_insert_text(), 'insert into {target}')),
    'own_update', quote_literal(crossfade_private.own_frame((pair).name, 3 - side, 'update',
      replace(crossfade_private.mirror_update_text(), '{single_update}',
        crossfade_private.single_update_text()), 'update {target} cf_t set {edits_by_flag}')),
    'kept', quote_literal(format('crossfade.kept_%s_v%s_', (pair).name, side)),
    'new_key', quote_literal(format('crossfade.key_%s_v%s', (pair).name, side)),
    'moves', quote_literal(format('crossfade.moves_%s_v%s', (pair).name, side)))
  from (select array[(pair).v1_table, (pair).v2_table] names) t;
$$;

comment on function crossfade_private.name_pieces is
  'Names of a pair''s tables, functions and settings, and the questions that a trigger asks first.';

create or replace function crossfade_private.key_pieces(
  names text[], source regclass, key text[], target regclass, target_key text[]
)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'same_key_t_s', crossfade_private.key_sql('(cf_t)', target_key, '(cf_s)', key),
    'same_key_given_s_o', crossfade_private.key_sql('(cf_s)', key, '(cf_o)', key),
    'same_key_s_o', crossfade_private.key_sql('(cf_s)', key, '(cf_o)', key) || r.is_real,
    'same_key_s_n', crossfade_private.key_sql('(cf_s)', key, '(cf_n)', key) || r.is_real,
    'same_key_s_r', crossfade_private.key_sql('(cf_s)', key, '(cf_r)', key) || r.is_real,
    'same_key_t_r', crossfade_private.key_sql('(cf_t)', target_key, '(cf_r)', key),
    'same_key_s_t', crossfade_private.key_sql('(cf_s)', key, '(cf_t)', target_key) || r.is_real,
    'same_key_t_from', crossfade_private.key_sql(
      '(cf_t)', target_key, '(cf_from)', key),
    'written_beside',
      'crossfade_private.is_written_beside(cf_t.xmin, cf_t.cmin, cf_s.cmin)',
    'same_key_t_to', crossfade_private.key_sql('(cf_t)', target_key, '(cf_to)', key),
    'same_key_s_to', crossfade_private.key_sql('(cf_s)', key, '(cf_to)', key) || r.is_real,
    'same_key_moved', crossfade_private.key_sql(
      '(cf_from)', key, '(cf_to)', key),
    'key_x', crossfade_private.row_key_sql('cf_x', key),
    'key_json_r', crossfade_private.key_to_json(names, source, key, 'cf_r'),
    'key_json_x', crossfade_private.key_to_json(names, source, key, 'cf_x'),
    'key_json_s', crossfade_private.key_to_json(names, source, key, 'cf_s'),
    'key_json_t', crossfade_private.key_to_json(names, target, target_key, 'cf_t'),
    'key_json_row', crossfade_private.key_to_json(
      names, source, key, '(cf_rows[1])'),
    'key_json_from', crossfade_private.key_to_json(
      names, source, key, '(cf_from)'),
    'key_json_to', crossfade_private.key_to_json(
      names, source, key, '(cf_to)'))
  -- SAFETY: what stands under a key that this transaction wrote is of this transaction. Above READ
  -- COMMITTED its snapshot may show beside that a row which another one has deleted since.
  from (select ' and (current_setting(''transaction_isolation'') = ''read committed'''
    || ' or crossfade_private.is_of_this_transaction(cf_s.xmin))' as is_real) r;
$$;

comment on function crossfade_private.key_pieces is
  'Whether two rows have the same key, and keys as JSON, for every alias in the texts: s the source''s row now (given: of a transition table), o before, n after, r of a list; t the counterpart.';

create or replace function crossfade_private.mirror_pieces(
  pair crossfade.pairs, side integer, conversions jsonb
)
returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_tables text[] := array[(pair).v1_table, (pair).v2_table];
  v_keys jsonb := jsonb_build_array((pair).key_columns, (pair).v2_key_columns);
  v_source regclass := v_tables[side];
  v_target regclass := v_tables[3 - side];
  v_key text[] := array(select jsonb_array_elements_text(v_keys -> (side - 1)));
  v_target_key text[] := array(select jsonb_array_elements_text(v_keys -> (2 - side)));
  v_there jsonb := conversions -> (side - 1);
  v_back jsonb := conversions -> (2 - side);
  v_columns text[] := crossfade_private.writable_columns(v_target, '{}');
  v_settable text[] := crossfade_private.writable_columns(
    v_target, v_target_key || crossfade_private.always_identity(v_target));
  v_settable_back text[] := crossfade_private.writable_columns(
    v_source, v_key || crossfade_private.always_identity(v_source));
begin
  return jsonb_build_object(
    'is_untouched', format('current_setting(''track_counts'') = ''on''
          and pg_stat_get_xact_tuples_inserted(%1$L::regclass)
            + pg_stat_get_xact_tuples_updated(%1$L::regclass)
            + pg_stat_get_xact_tuples_deleted(%1$L::regclass) = 0', v_tables[3 - side]),
    'old_rows', crossfade_private.stored_rows_sql(v_source, 'cf_old'),
    'new_rows', crossfade_private.stored_rows_sql(v_source, 'cf_new'),
    'target_columns', (
      select string_agg(quote_ident(c), ', ' order by n)
      from unnest(v_columns) with ordinality u(c, n)),
    'made_columns', (
      select string_agg(format('cf_c.%I', c), ', ' order by n)
      from unnest(v_columns) with ordinality u(c, n)),
    'convert_new', crossfade_private.convert_sql(v_there, 'cf_n', format('null::%s', v_target)),
    'convert_now', crossfade_private.convert_sql(v_there, 'cf_s', format('null::%s', v_target)),
    'convert', crossfade_private.convert_sql(v_there, 'cf_s', 'cf_t'),
    'convert_old', crossfade_private.convert_sql(v_there, 'cf_o', format('null::%s', v_target)),
    'convert_back', crossfade_private.convert_sql(v_back, 'cf_t', 'cf_s'),
    'whole', case when v_settable = '{}' then format('%I = (cf_t).%1$I', v_target_key[1])
      else format('(%s) = (select %s from lateral %s cf_c)', (
        select string_agg(quote_ident(c), ', ' order by n)
        from unnest(v_settable) with ordinality u(c, n)), (
        select string_agg(format('cf_c.%I', c), ', ' order by n)
        from unnest(v_settable) with ordinality u(c, n)),
      crossfade_private.convert_sql(v_there, 'cf_s', 'cf_t')) end,
    'whole_back', case when v_settable_back = '{}' then format('%I = (cf_s).%1$I', v_key[1])
      else format('(%s) = (select %s from lateral %s cf_c)', (
        select string_agg(quote_ident(c), ', ' order by n)
        from unnest(v_settable_back) with ordinality u(c, n)), (
        select string_agg(format('cf_c.%I', c), ', ' order by n)
        from unnest(v_settable_back) with ordinality u(c, n)),
      crossfade_private.convert_sql(v_back, 'cf_t', 'cf_s')) end,
    'differs', crossfade_private.any_differs_sql(v_target, v_settable, '(cf_t)', 'cf_c'),
    'differs_back', crossfade_private.any_differs_sql(v_source, v_settable_back, '(cf_s)', 'cf_c'),
    'read_differs', crossfade_private.any_differs_sql(v_source,
      (select array_agg(distinct r) from (
        select jsonb_array_elements_text(nullif(v_there -> 'reads', 'null')) union all
        select unnest(v_key) where v_there -> 'reads' <> 'null') u(r)), '(cf_o)', '(cf_s)'),
    'target_key_names', format('%L::text[]',
      crossfade_private.unique_key_names(v_target, v_target_key)))
    || crossfade_private.name_pieces(pair, side)
    || crossfade_private.key_pieces((pair).key_columns, v_source, v_key, v_target, v_target_key)
    || crossfade_private.update_pieces(v_there, v_source, v_target, v_target_key)
    || crossfade_private.move_pieces(pair, side, v_source, v_target, v_key, v_target_key)
    || crossfade_private.settle_pieces(v_back, v_source, v_key, (pair).key_columns)
    || jsonb_build_object('filters', v_there -> 'items' = 'null', 'settings', case
      when crossfade_private.depends_on_settings(v_there, v_source, v_target)
        or crossfade_private.depends_on_settings(v_back, v_target, v_source)
      then crossfade_private.text_settings() else '' end);
end $$;

comment on function crossfade_private.mirror_pieces is
  'Everything that the texts of a pair''s mirror functions ask for, with side (1 or 2) as the source; conversions are those of pair_conversions.';

-- mirror/view_write.sql ---------------------------------------------------------------------------

-- Stage retired: the trigger behind the view that has V1's name. It runs as whoever writes, so
-- that the rights and policies of V2 hold, and calls nothing of crossfade_private, where API roles
-- have no right.

create or replace function crossfade_private.view_write_text()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$
-- {made_by}: what is written to its view goes to version 2.
#variable_conflict use_column
declare
  cf_old {archive};
  cf_new {archive};
  cf_now {archive};
  cf_row {target};
  cf_made {target};
  cf_before {target};
  cf_asked text;
  cf_given text[];
  cf_merges boolean := false;
  cf_count bigint;
  cf_constraint text;
  cf_detail text;
begin
  if tg_op = 'DELETE' then
    cf_old := old;
    -- A row that somebody has changed meanwhile is looked at again by this condition.
    delete from {target} cf_t where {key_t_old}
      and (select not ({now_differs_t}) from (select {image_t} from {convert_t} cf_c) cf_i);
    get diagnostics cf_count = row_count;
    if cf_count > 0 then
      return old;
    end if;
    select cf_t.* into cf_row from {target} cf_t where {key_t_old};
    if found then
      select {image_row} into cf_now from {convert_row} cf_c;
      if {old_differs_now} then
        {raise_moved}
      end if;
    end if;
    return null;
  end if;
  cf_new := new;
  {generate}
  {check}
  if tg_op = 'INSERT' then
    select cf_c.* into cf_made from {make_new} cf_c;
    if not found then
      {raise_left_out}
    end if;
    insert into {target} ({columns}) overriding system value
    values ({made_values}) on conflict{conflict} do nothing;
    get diagnostics cf_count = row_count;
    if cf_count = 0 then
      -- A view has no key that the Data API could name in ON CONFLICT: its client's wish stands in
      -- the header, and the columns that were sent in the statement.
      cf_asked := substring(nullif(current_setting('request.headers', true), '')::json ->> 'prefer'
        from 'resolution=(merge|ignore)-duplicates');
      if cf_asked is not null and pg_trigger_depth() = 1 then
        cf_given := array(
          select replace(m[1], '""', '"')
          from regexp_matches((regexp_match(current_query(), {insert_pattern}, 'i'))[1],
            '"((?:[^"]|"")*)"', 'g') m);
        cf_merges := cf_given <> '{}' and exists (select from {target} cf_t where {key_t_made});
        if cf_merges and cf_asked = 'ignore' then
          return null;
        end if;
      end if;
      if not cf_merges then
        -- Again, for the error that a table would give.
        begin
          insert into {target} ({columns}) overriding system value values ({made_values});
          get diagnostics cf_count = row_count;
        exception when unique_violation then
          {raise_taken}
        end;
        if cf_count = 0 then
          return null;
        end if;
      end if;
    end if;
  end if;
  if tg_op = 'UPDATE' or cf_merges then
    if cf_merges then
      select cf_t.* into cf_row from {target} cf_t where {key_t_made} for no key update;
      if not found then
        return null;
      end if;
      select {image_row} into cf_now from {convert_row} cf_c;
      cf_old := cf_now;
      {merge}
      {generate}
      {check}
    else
      cf_old := old;
      select cf_t.* into cf_row from {target} cf_t where {key_t_old} for no key update;
      if not found then
        return null;
      end if;
      -- SAFETY: the new row was made of the row that the statement saw. Where that has changed
      -- since, writing it would undo what somebody else was told is stored.
      select {image_row} into cf_now from {convert_row} cf_c;
      if {old_differs_now} then
        if exists (select from {target} cf_t where {key_t_old} and cf_t.xmin::text
          = (pg_current_xact_id()::text::numeric % 4294967296)::text) then
          return null; -- a second time in one statement, as a table does it
        end if;
        {raise_moved}
      end if;
    end if;
    select cf_c.* into cf_made from {make_edited} cf_c;
    if not found then
      {raise_left_out}
    end if;
    select cf_c.* into cf_before from {make_before} cf_c;
    -- What the edit did not touch stays as version 2 has it.
    if {key_row_made} then
      {update}
      get diagnostics cf_count = row_count;
    else
      begin
        {update}
        get diagnostics cf_count = row_count;
      exception when unique_violation then
        {raise_taken}
      end;
    end if;
    if cf_count = 0 then
      return null;
    end if;
  end if;
  {returned}
  return new;
end $body$;
$text$;

create or replace function crossfade_private.view_stored_text()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$-- As it is stored: triggers may have changed it. Who may not read it gets what was
  -- written.
  cf_row := cf_made;
  if has_table_privilege({target_literal}, 'select') then
    for cf_before in select cf_t.* from {target} cf_t where {key_t_made} loop
      cf_row := cf_before;
    end loop;
  end if;
  select {image_row} into new from {convert_row} cf_c;$body$;
$text$;

comment on function crossfade_private.view_stored_text is
  'The part of view_write_text that gives RETURNING the row, where V2 has triggers or generated columns that make it another one than what was written.';

comment on function crossfade_private.view_write_text is
  'Body of crossfade_private.mirror_<pair>_v1_view(), the INSTEAD OF trigger of a retired V1: an edit of a row that has changed since the statement saw it is 40001, a taken key 23505 with the constraint of V1; RETURNING gives the row as it is stored.';

-- mirror/view.sql ---------------------------------------------------------------------------------

-- Stage retired: V1's name as a view over V2. The converters' text stands in it, so that an index
-- of V2 is found through it.

create or replace function crossfade_private.beside_name(v1 text, suffix text)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select format('%I.%I', p[1], left(p[2], 63 - length(suffix)) || suffix) from parse_ident(v1) p;
$$;

comment on function crossfade_private.beside_name is
  'A name in V1''s schema: with _archive what V1 is called in stage retired, with _to_be the view before it has V1''s name.';

create or replace function crossfade_private.view_key_type(
  v1 regclass, column_1 text, v2 regclass, column_2 text
)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- A cast that computes would keep the index of V2 from being used: then it is V2's type.
  select case
    when crossfade_private.base_type(a.atttypid) = crossfade_private.base_type(b.atttypid)
      and a.atttypmod = b.atttypmod
      or array[crossfade_private.base_type(a.atttypid), crossfade_private.base_type(b.atttypid)]
        <@ array['text'::regtype::oid, 'varchar'::regtype::oid]
      then format_type(a.atttypid, case when a.atttypid = 'varchar'::regtype
        and (b.atttypid <> a.atttypid or b.atttypmod <> a.atttypmod) then -1 else a.atttypmod end)
    else format_type(b.atttypid, b.atttypmod) end
  from pg_catalog.pg_attribute a join pg_catalog.pg_attribute b on b.attname = column_2
  where a.attrelid = v1 and a.attname = column_1 and b.attrelid = v2;
$$;

comment on function crossfade_private.view_key_type is
  'The type of a key column in the view: that of V1 where V2''s values have it as they are, else V2''s.';

create or replace function crossfade_private.view_columns(
  pair crossfade.pairs, row_sql text, is_view boolean
)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select string_agg(case
    -- The Data API must not know a key of the view: it would write ON CONFLICT, which no view has.
    when k.name is not null then format(
      case when is_view then 'case when true then %s end as %I' else '%s as %I' end,
      format('(%s.%I)::%s', row_sql, k.name,
        crossfade_private.view_key_type(a.attrelid, a.attname, (pair).v2_table, k.name)), a.attname)
    when a.attgenerated <> '' then format('(select (%s)::%s from (select cf_c.*) cf_g) as %I',
      pg_get_expr(d.adbin, d.adrelid), t.name, a.attname)
    else format('(cf_c.%I)::%s as %1$I', a.attname, t.name) end, ', ' order by a.attnum)
  from pg_catalog.pg_attribute a
  cross join lateral (select format_type(a.atttypid, a.atttypmod)) t(name)
  left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
  left join lateral unnest((pair).key_columns, (pair).v2_key_columns) k(name_1, name)
    on k.name_1 = a.attname
  where a.attrelid = ((pair).v1_table)::regclass and a.attnum > 0 and not a.attisdropped;
$$;

comment on function crossfade_private.view_columns is
  'The columns of V1 of a row of V2 and of what its converter makes of it, cf_c. is_view: as the view has them.';

create or replace function crossfade_private.constraint_checks(tab regclass, name text)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with named as (
    select c.relname, c.relnamespace::regnamespace::text as schema_name
    from pg_catalog.pg_class c where c.oid = tab
  )
  select coalesce(string_agg(format('if %s then
      raise exception using errcode = %L, schema = %L, table = %L, %s, message = %L;
    end if;', q.fails, q.code, n.schema_name, n.relname, q.named, q.message), e'\n  '
    order by q.code, q.n), '')
  from named n
  cross join lateral (
    select a.attnum as n, format('num_nulls((%s).%I) > 0', name, a.attname) as fails,
      '23502' as code, format('column = %L', a.attname) as named,
      format('null value in column "%s" of relation "%s" violates not-null constraint', a.attname,
        n.relname) as message
    from pg_catalog.pg_attribute a
    where a.attrelid = tab and a.attnum > 0 and a.attnotnull and not a.attisdropped
    union all
    select row_number() over (order by o.conname), format(
      'exists (select from (select (%s).*) cf_x where (%s) is false)', name,
      pg_get_expr(o.conbin, o.conrelid)), '23514', format('constraint = %L', o.conname),
      format('new row for relation "%s" violates check constraint "%s"', n.relname, o.conname)
    from pg_catalog.pg_constraint o
    where o.conrelid = tab and o.contype = 'c'
      and coalesce((to_jsonb(o) ->> 'conenforced')::boolean, true)
  ) q;
$$;

comment on function crossfade_private.constraint_checks is
  'Statements that refuse a row, in a variable, as the NOT NULL and CHECK constraints of a table do.';

create or replace function crossfade_private.taken_key_text(pair crossfade.pairs)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format('get stacked diagnostics cf_constraint = constraint_name,
            cf_detail = pg_exception_detail;
          if cf_constraint <> all (%L::text[]) then
            raise;
          elsif cf_detail = '''' then -- of a row that the writer may not see
            raise exception using %s;
          end if;
          raise exception using %2$s, detail = %3$s;',
    crossfade_private.unique_key_names(((pair).v2_table)::regclass, (pair).v2_key_columns),
    format('errcode = ''23505'', schema = %L, table = %L, constraint = %L, message = %L',
      c.relnamespace::regnamespace, c.relname, n.name,
      format('duplicate key value violates unique constraint "%s"', n.name)),
    format('format(%L, %s)', format('Key (%s)=(%s) already exists.',
      replace(array_to_string((pair).key_columns, ', '), '%', '%%'),
      array_to_string(array_fill('%s'::text, array[cardinality((pair).key_columns)]), ', ')), (
      select string_agg(format('(cf_new).%I', k), ', ' order by u.n)
      from unnest((pair).key_columns) with ordinality u(k, n))))
  from pg_catalog.pg_class c
  cross join lateral (
    select coalesce((
      select i.indexrelid::regclass::oid from pg_catalog.pg_index i
      where i.indrelid = c.oid and i.indisprimary), (
      select i.indexrelid from pg_catalog.pg_index i
      join pg_catalog.pg_class x on x.oid = i.indexrelid
      where i.indrelid = c.oid and x.relname = any (
        crossfade_private.unique_key_names(c.oid, (pair).key_columns))
      limit 1)) as id
  ) k
  cross join lateral (select x.relname as name from pg_catalog.pg_class x where x.oid = k.id) n
  where c.oid = ((pair).v1_table)::regclass;
$$;

comment on function crossfade_private.taken_key_text is
  'What an exception handler says of a key of V2 that is taken: what V1 would say of its own.';

create or replace function crossfade_private.view_update(pair crossfade.pairs)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with v2 as (
    select to_regclass((pair).v2_table) as id
  ),
  edited as (
    select a.attname as name, a.attnum as n, a.attname = any ((pair).v2_key_columns) as is_key,
      crossfade_private.differs_sql(a.atttypid, format('(cf_made).%I', a.attname),
        format('(cf_before).%I', a.attname)) as differs
    from v2
    join pg_catalog.pg_attribute a on a.attrelid = v2.id and a.attname = any (
      crossfade_private.writable_columns(v2.id, crossfade_private.always_identity(v2.id)))
  )
  select case
    -- Only the columns that were edited may stand in it: there are triggers for some of them, or
    -- rights on some of them. That takes a plan for each row.
    when crossfade_private.has_triggers(v2.id, 'update of') or exists (
      select from pg_catalog.pg_attribute a where a.attrelid = v2.id and a.attacl is not null)
      then format('execute %L || coalesce(nullif(concat_ws('', '', %s), %L), %L) || %L
        using cf_made, cf_row;', format('update %s cf_t set ', (pair).v2_table),
        string_agg(format('case when %s then %L end', e.differs,
          format('%I = ($1).%1$I', e.name)), ', ' order by e.n), '',
        (array_agg(format('%I = ($2).%1$I', e.name) order by e.is_key, e.n))[1],
        ' where ' || crossfade_private.key_sql('cf_t', (pair).v2_key_columns, '($2)',
          (pair).v2_key_columns))
    else format('update %s cf_t set %s where %s;', (pair).v2_table,
      string_agg(format('%I = case when %s then (cf_made).%1$I else cf_t.%1$I end', e.name,
        e.differs), ', ' order by e.n),
      crossfade_private.key_sql('cf_t', (pair).v2_key_columns, '(cf_row)', (pair).v2_key_columns))
    end
  from v2 cross join edited e
  group by v2.id;
$$;

comment on function crossfade_private.view_update is
  'The statement that brings an edit of the view to V2, by column.';

create or replace function crossfade_private.view_returned(pair crossfade.pairs)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when crossfade_private.has_triggers(((pair).v2_table)::regclass, 'before row') or exists (
      select from pg_catalog.pg_attribute a
      where a.attrelid = ((pair).v2_table)::regclass and a.attgenerated <> '')
      then crossfade_private.view_stored_text()
    -- What version 2 makes of a row of version 1 shows that very row: the laws of converters.
    else coalesce(string_agg(format('new.%I := cf_new.%1$I;', a.attname), e'\n  '
      order by a.attnum), '') end
  from pg_catalog.pg_attribute a
  where a.attrelid = ((pair).v1_table)::regclass and a.attnum > 0 and not a.attisdropped;
$$;

comment on function crossfade_private.view_returned is
  'Statements that give RETURNING the row.';

create or replace function crossfade_private.view_variables(v1 regclass)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'merge', coalesce(string_agg(format(
      'if %L <> all (cf_given) then cf_new.%1$I := cf_now.%1$I; end if;', a.attname), e'\n      '
      order by a.attnum) filter (where a.attgenerated = ''), ''),
    'generate', coalesce(string_agg(format(
      'cf_new.%I := (select (%s) from (select (cf_new).*) cf_g);', a.attname,
      pg_get_expr(d.adbin, d.adrelid)), e'\n  ' order by a.attnum)
      filter (where a.attgenerated <> ''), ''))
  from pg_catalog.pg_attribute a
  left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
  where a.attrelid = v1 and a.attnum > 0 and not a.attisdropped;
$$;

comment on function crossfade_private.view_variables is
  'Statements about a row of V1 in a variable: the columns that were not sent, and the generated ones.';

create or replace function crossfade_private.view_pieces(
  pair crossfade.pairs, to_v2 jsonb, to_v1 jsonb
)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'made_by', format('crossfade %s: view of pair "%s"', crossfade_private.generator(),
      (pair).name),
    'archive', crossfade_private.beside_name((pair).v1_table, '_archive'),
    'target', (pair).v2_table, 'target_literal', quote_literal((pair).v2_table),
    'key_t_old', crossfade_private.key_sql('cf_t', t.key_2, '(cf_old)', t.key_1),
    'key_t_made', crossfade_private.key_sql('cf_t', t.key_2, '(cf_made)', t.key_2),
    'key_row_made', crossfade_private.key_sql('(cf_row)', t.key_2, '(cf_made)', t.key_2),
    'image_t', crossfade_private.view_columns(pair, 'cf_t', false),
    'image_row', crossfade_private.view_columns(pair, '(cf_row)', false),
    'convert_t', 'lateral ' || crossfade_private.convert_sql(to_v1, 'cf_t', 'null'),
    'convert_row', 'lateral ' || crossfade_private.convert_sql(to_v1, 'cf_row', 'null'),
    'make_new', 'lateral ' || crossfade_private.convert_sql(to_v2, 'cf_new',
      format('null::%s', (pair).v2_table)),
    'make_edited', 'lateral ' || crossfade_private.convert_sql(to_v2, 'cf_new', 'cf_row'),
    'make_before', 'lateral ' || crossfade_private.convert_sql(to_v2, 'cf_old', 'cf_row'),
    'now_differs_t', crossfade_private.any_differs_sql(t.v1, null, 'cf_i', '(cf_old)'),
    'old_differs_now', crossfade_private.any_differs_sql(t.v1, null, '(cf_old)', '(cf_now)'),
    'check', crossfade_private.constraint_checks(t.v1, 'cf_new'),
    'columns', c.names, 'made_values', c.made,
    -- Naming the key takes a right to read it, which who may only insert does not have.
    'conflict', coalesce((
      select format(' (%s)', string_agg(quote_ident(k), ', ')) from unnest(t.key_2) k
      where exists (
        select from pg_catalog.pg_index i
        where i.indrelid = ((pair).v2_table)::regclass and not i.indimmediate)
      having count(*) > 0), ''),
    -- As the Data API writes it, which quotes every name.
    'insert_pattern', quote_literal(format('INSERT INTO %s\s*\(((?:\s*"(?:[^"]|"")*"\s*,?)*)\)', (
      select string_agg(regexp_replace('"' || replace(i, '"', '""') || '"', '([^\w\s])', '\\\1',
        'g'), '\.' order by n)
      from unnest(parse_ident((pair).v1_table)) with ordinality u(i, n)))),
    'raise_taken', crossfade_private.taken_key_text(pair),
    'raise_moved',
      'raise exception using errcode = ''40001'',
          message = ''could not serialize access due to concurrent update'';',
    'raise_left_out', format('raise exception using errcode = ''23514'', message = %L;',
      format('%s has no place for this row', (pair).v2_table)))
    || jsonb_build_object('update', crossfade_private.view_update(pair))
    || crossfade_private.view_variables(t.v1)
  from (
    select (pair).key_columns as key_1, (pair).v2_key_columns as key_2,
      ((pair).v1_table)::regclass as v1
  ) t
  cross join lateral (
    select string_agg(quote_ident(w.c), ', ' order by w.n) as names,
      string_agg(format('(cf_made).%I', w.c), ', ' order by w.n) as made
    from unnest(crossfade_private.writable_columns(((pair).v2_table)::regclass, '{}'))
      with ordinality w(c, n)
  ) c;
$$;

comment on function crossfade_private.view_pieces is
  'What view_write_text asks for, by the name that V1''s table will have.';

create or replace function crossfade_private.copy_table_rights(from_table regclass, to_view text)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_statement text;
begin
  for v_statement in
    -- What default privileges have given it.
    select format('revoke all on %s from %s', to_view, g.role)
    from pg_catalog.pg_class c
    cross join lateral pg_catalog.aclexplode(c.relacl) a
    cross join lateral (select case a.grantee when 0 then 'public'
      else quote_ident(pg_get_userbyid(a.grantee)) end) g(role)
    where c.oid = to_view::regclass and a.grantee <> c.relowner
    union all
    select format('grant %s%s on %s to %s%s', a.privilege_type, a.columns, to_view,
      case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end,
      case when a.is_grantable then ' with grant option' end)
    from (
      select x.*, null::text as columns from pg_catalog.pg_class c
      cross join lateral pg_catalog.aclexplode(c.relacl) x
      where c.oid = from_table and x.grantee <> c.relowner
      union all
      select x.*, format(' (%I)', b.attname) from pg_catalog.pg_attribute b
      cross join lateral pg_catalog.aclexplode(b.attacl) x
      where b.attrelid = from_table and b.attnum > 0 and not b.attisdropped
    ) a
  loop
    execute v_statement;
  end loop;
  execute format('alter view %s owner to %I', to_view, (
    select pg_get_userbyid(c.relowner) from pg_catalog.pg_class c where c.oid = from_table));
end $$;

comment on function crossfade_private.copy_table_rights is
  'Give a view the owner and the grants of a table, also those of columns, and no others.';

create or replace function crossfade_private.copy_defaults(pair crossfade.pairs, to_view text)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_statement text;
begin
  for v_statement in
    select format('alter view %s alter column %I set default %s', to_view, a.attname, coalesce(
      -- Keys come from where V2's own come.
      'nextval(' || quote_literal(s.sequence) || ')', pg_get_expr(d.adbin, d.adrelid)))
    from pg_catalog.pg_attribute a
    left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    cross join lateral (
      select crossfade_private.view_sequence(pair, a.attname) as sequence) s
    where a.attrelid = ((pair).v1_table)::regclass and a.attnum > 0 and a.attgenerated = ''
      and (d.oid is not null or s.sequence is not null)
    union all
    select format('comment on %s is %L', case o.objsubid when 0 then 'view ' || to_view
      else format('column %s.%I', to_view, a.attname) end, o.description)
    from pg_catalog.pg_description o
    left join pg_catalog.pg_attribute a on a.attrelid = o.objoid and a.attnum = o.objsubid
    where o.classoid = 'pg_class'::regclass and o.objoid = ((pair).v1_table)::regclass
  loop
    execute v_statement;
  end loop;
end $$;

comment on function crossfade_private.copy_defaults is
  'Give the columns of a view the defaults of V1, and it and them the comments.';

create or replace function crossfade_private.view_sequence(pair crossfade.pairs, column_1 text)
returns regclass
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce((
    select k.sequence_2 from crossfade_private.key_sequences(pair) k
    where k.column_1 = view_sequence.column_1),
    case when a.attidentity <> '' or (pair).key_columns @> array[view_sequence.column_1]
      then crossfade_private.default_sequence(a.attrelid, a.attname) end)
  from pg_catalog.pg_attribute a
  where a.attrelid = ((pair).v1_table)::regclass and a.attname = view_sequence.column_1;
$$;

comment on function crossfade_private.view_sequence is
  'The sequence from which the view takes a column''s default, where the column is a key or an identity.';

create or replace function crossfade_private.make_view(pair crossfade.pairs)
returns text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set check_function_bodies = off -- it names V1 as it will be called
as $$
declare
  v_conversions constant jsonb := crossfade_private.pair_conversions(pair);
  v_pieces jsonb;
  v_view constant text := crossfade_private.beside_name((pair).v1_table, '_to_be');
  v_function constant text := format('crossfade_private.mirror_%s_v1_view', (pair).name);
begin
  v_pieces := crossfade_private.view_pieces(pair, v_conversions -> 0, v_conversions -> 1);
  v_pieces := v_pieces || jsonb_build_object('returned',
    crossfade_private.render(crossfade_private.view_returned(pair), v_pieces));
  execute format('create view %s with (security_invoker = true) as
    select %s from %s cf_t cross join lateral %s cf_c', v_view,
    crossfade_private.view_columns(pair, 'cf_t', true), (pair).v2_table,
    crossfade_private.convert_sql(v_conversions -> 1, 'cf_t', 'null'));
  execute format('create or replace function %s() returns trigger language plpgsql volatile
    set search_path = %s as %L', v_function,
    crossfade_private.owner_search_path(((pair).v2_table)::regclass),
    crossfade_private.render(crossfade_private.view_write_text(), v_pieces));
  execute format('revoke all on function %s() from public', v_function);
  execute format('create trigger crossfade_view instead of insert or update or delete on %s
    for each row execute function %s()', v_view, v_function);
  perform crossfade_private.copy_defaults(pair, v_view);
  perform crossfade_private.copy_table_rights(((pair).v1_table)::regclass, v_view);
  return v_view;
end $$;

comment on function crossfade_private.make_view is
  'Make the view that takes V1''s name, with its trigger, under another name, which it gives. Locks nothing that clients wait for.';

-- mirror/install.sql ------------------------------------------------------------------------------

-- Making and removing the mirror of a pair: functions, triggers, and the constant that switches
-- them.

create or replace function crossfade_private.mirror_body(name text, pieces jsonb)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select crossfade_private.render(case name
    when 'insert' then crossfade_private.mirror_insert_text()
    when 'update' then crossfade_private.mirror_update_text()
    when 'delete' then crossfade_private.mirror_delete_text()
    when 'truncate' then crossfade_private.mirror_truncate_text()
    when 'put' then crossfade_private.mirror_put_text()
    when 'edit' then crossfade_private.mirror_edit_text()
    when 'move' then crossfade_private.mirror_move_text()
    when 'push' then crossfade_private.mirror_push_text()
    when 'remove' then crossfade_private.mirror_remove_text()
    when 'first' then crossfade_private.mirror_first_text()
    when 'last' then crossfade_private.mirror_last_text()
    when 'key' then crossfade_private.mirror_key_text()
    end, pieces);
$$;

comment on function crossfade_private.mirror_body is
  'The body of one of a pair''s mirror functions.';

create or replace function crossfade_private.all_pieces(
  pair crossfade.pairs, side integer, conversions jsonb
)
returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pieces jsonb := crossfade_private.mirror_pieces(pair, side, conversions);
  v_target regclass := v_pieces ->> 'target';
  v_filters boolean := (v_pieces ->> 'filters')::boolean;
  v_by_column boolean := crossfade_private.has_triggers(v_target, 'update of');
  -- The others were counted where that was asked.
  v_count constant text := 'if cf_depth = 2 or not ({is_plain}) then
    cf_number := {counter};
  end if;';
begin
  v_pieces := v_pieces || jsonb_build_object(
    -- A trigger may drop rows, and a converter that is not a bare list may give none.
    'when_written', case
      when v_filters or crossfade_private.has_triggers(v_target, 'before insert row') then
        'declare
        cf_written bigint;
      begin
        get diagnostics cf_written = row_count;
        if cf_written = (select count(*) from cf_new) then
          return null;
        end if;
      end;'
      else 'return null;' end,
    'without_counterpart', crossfade_private.render(case when v_filters then
        'case when exists (select from {target} cf_t where {same_key_t_s}) then exists (
          select from {target} cf_t where {same_key_t_s}
            and not exists (select from lateral {convert} cf_c))
        else exists (select from lateral {convert_now} cf_c) end'
      else 'not exists (select from {target} cf_t where {same_key_t_s})' end, v_pieces),
    'update_many', quote_literal(
      crossfade_private.render(crossfade_private.update_many_text(false), v_pieces)),
    'update_many_new', quote_literal(
      crossfade_private.render(crossfade_private.update_many_text(true), v_pieces)),
    'read_differs_many', quote_literal(
      crossfade_private.render(crossfade_private.read_differs_many_text(), v_pieces)),
    'drop_what_is_left_out', case when v_filters then crossfade_private.render(
      crossfade_private.drop_what_is_left_out_text(), v_pieces) else '' end,
    'refuse_taken', crossfade_private.render(crossfade_private.refuse_taken_text(), v_pieces),
    'raise_left_out', case when v_filters then crossfade_private.render(
      crossfade_private.raise_left_out_text(), v_pieces) else '' end,
    'delete_many', quote_literal(
      crossfade_private.render(crossfade_private.delete_many_text(), v_pieces)),
    'named_head', quote_literal(format('update %s cf_t set ', v_pieces ->> 'target')),
    'named_tail', quote_literal(
      crossfade_private.render(crossfade_private.named_tail_text(), v_pieces)),
    'edited_texts', format('array[%s]::text[]', (
      select string_agg(quote_literal(t), ', ' order by n)
      from jsonb_array_elements_text(v_pieces -> 'edited_texts') with ordinality u(t, n))),
    -- For is_named_update, which sees the statement as it was run.
    'named', jsonb_build_object('head', format('update %s cf_t set ', v_pieces ->> 'target'),
      'tail', crossfade_private.render(crossfade_private.named_tail_text(), v_pieces),
      'texts', v_pieces -> 'edited_texts'));
  return v_pieces || jsonb_build_object(
    'count_if_not_plain', crossfade_private.render(v_count, v_pieces),
    'count_update', crossfade_private.render(case when v_by_column or not v_pieces ? 'flags'
      then 'cf_number := {counter};' else v_count end, v_pieces),
    'flags_declared', coalesce(v_pieces ->> 'flags_declared', ''),
    'single_update', case when v_by_column or not v_pieces ? 'flags' then ''
      else crossfade_private.render(crossfade_private.single_update_text(), v_pieces) end,
    'fast_update', case when v_by_column
      then '-- Column by column: the other table has triggers for some.'
      else crossfade_private.render(crossfade_private.fast_update_text(), v_pieces) end,
    'edit_statement', crossfade_private.render(
      crossfade_private.edit_statement_text(v_by_column), v_pieces));
end $$;

comment on function crossfade_private.all_pieces is
  'mirror_pieces and what is put together from them.';

create or replace function crossfade_private.make_mirror_function(
  name text, signature text, pieces jsonb, path text
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Definer: who may write one table often has no right on the other. Where a converter depends on
  -- settings (each costs half a microsecond a call), they are those by which it was printed.
  -- Where conversions look expensive to the planner, compiling them takes longer than they do: an
  -- UPDATE whose rows triggers write one by one took seconds.
  execute format('create or replace function %s_%s%s language plpgsql volatile security definer
    set search_path = %s %s %s as %L', pieces ->> 'function', name, signature, path,
    case when name in ('insert', 'update', 'delete', 'truncate') then 'set jit = off' end,
    case when name in ('first', 'last', 'key') then crossfade_private.text_settings()
      else pieces ->> 'settings' end, crossfade_private.mirror_body(name, pieces));
  execute format('revoke all on function %s_%s from public', pieces ->> 'function', name);
end $$;

comment on function crossfade_private.make_mirror_function is
  'Create one of a pair''s mirror functions.';

create or replace function crossfade_private.make_mirror_trigger(
  trigger_name text, clause text, function_name text, pieces jsonb
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '2s'
as $$
begin
  execute format('create or replace trigger %I %s execute function %s_%s()', trigger_name,
    crossfade_private.render(clause, pieces), pieces ->> 'function', function_name);
end $$;

comment on function crossfade_private.make_mirror_trigger is
  'Create a trigger of a pair. Takes SHARE ROW EXCLUSIVE on the table; waits at most 2 s for it (55P03).';

create or replace function crossfade_private.plan_mirrors(pair crossfade.pairs)
returns jsonb
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_agg(jsonb_build_object('mirror', m.pieces, 'runs',
    crossfade_private.make_pieces(pair, m.side)
      || crossfade_private.inlined_pieces(m.conversions, m.side)
      || jsonb_build_object('named', m.pieces -> 'named', 'reads_counterpart',
        crossfade_private.counterpart_reads(m.conversions -> (m.side - 1)), 'triggers_met',
        crossfade_private.triggers_met((m.pieces ->> 'source')::regclass))) order by m.side)
  from (
    select s.side, c.conversions,
      crossfade_private.all_pieces(pair, s.side, c.conversions) as pieces
    from crossfade_private.pair_conversions(pair) c(conversions)
    cross join generate_series(1, 2) s(side)
    offset 0 -- or the pieces are made for each time they are named
  ) m;
$$;

comment on function crossfade_private.plan_mirrors is
  'What install_mirror needs, by side: the pieces of the mirror functions and those of runs. Takes most of the time, and locks nothing.';

create or replace function crossfade_private.install_mirror(
  pair crossfade.pairs, side integer, plan jsonb
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '2s'
as $$
declare
  v_pieces jsonb := plan -> 'mirror';
  v_source regclass := v_pieces ->> 'source';
  v_path text := crossfade_private.owner_search_path((v_pieces ->> 'target')::regclass);
  v_rows text := format('(cf_rows %s[]', v_source);
  v_both text := format('(cf_olds %s[], cf_news %1$s[]', v_source);
  v_function record;
begin
  insert into crossfade_private.pair_pieces as q (pair, side, pieces)
  values ((pair).name, install_mirror.side, plan -> 'runs')
  on conflict on constraint pair_pieces_pkey do update set pieces = excluded.pieces
  where q.pieces <> excluded.pieces;
  perform crossfade_private.make_counters((pair).name, side);
  for v_function in
    select * from (values
      ('put', v_rows || ', cf_operation text) returns void'),
      ('remove', v_rows || ') returns void'),
      ('edit', v_both || ', cf_nested boolean) returns void'),
      ('move', v_both || ') returns integer[]'),
      ('push', v_both || ') returns void'),
      ('insert', '() returns trigger'), ('update', '() returns trigger'),
      ('delete', '() returns trigger'), ('truncate', '() returns trigger')
    ) f(name, signature)
  loop
    perform crossfade_private.make_mirror_function(
      v_function.name, v_function.signature, v_pieces, v_path);
  end loop;
  perform crossfade_private.make_mirror_trigger('crossfade_mirror_' || t.name,
    format('after %s on {source} %s for each statement', t.name, t.referencing), t.name, v_pieces)
  from (values ('insert', 'referencing new table as cf_new'),
    ('update', 'referencing old table as cf_old new table as cf_new'),
    ('delete', 'referencing old table as cf_old'), ('truncate', '')) t(name, referencing);
  -- By its name the last one: what triggers of the owner's write before is emptied as well.
  perform crossfade_private.make_mirror_trigger('~crossfade_truncate',
    'before truncate on {source} for each statement', 'truncate', v_pieces);
  perform crossfade_private.install_settling(pair, v_pieces, v_source);
  if side = 2 then
    -- What a trigger or a foreign key writes belongs to the statement that fired it.
    execute crossfade_private.render(
      'create or replace trigger crossfade_fence before insert or update or delete or truncate on {source} for each statement when (pg_trigger_depth() = 0) execute function crossfade_private.refuse_fenced_write({pair_literal})',
      v_pieces);
  end if;
end $$;

comment on function crossfade_private.install_mirror is
  'Generate the mirror functions of one side and create their triggers. Takes SHARE ROW EXCLUSIVE on that table for milliseconds (waits at most 2 s for it, then fails with 55P03).';

create or replace function crossfade_private.install_settling(
  pair crossfade.pairs, pieces jsonb, tab regclass
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '2s'
as $$
declare
  -- Only writes of the mirror, or of a batch, get past this: direct ones pay nothing.
  v_settles boolean := crossfade_private.has_triggers(tab, 'before row');
  v_keys boolean := crossfade_private.always_identity(tab) && case (pieces ->> 'side')::integer
    when 1 then (pair).key_columns else (pair).v2_key_columns end;
begin
  if v_settles then
    perform crossfade_private.make_mirror_function(f, '() returns trigger', pieces,
      'pg_catalog, pg_temp') from unnest(array['first', 'last']) f;
    perform crossfade_private.make_mirror_trigger(t.name,
      'before insert or update on {source} for each row when (pg_catalog.pg_trigger_depth() > 0
        or coalesce(pg_catalog.current_setting({mark}, true), '''') = ''engine'')',
      t.called, pieces)
    from (values ('!crossfade_first', 'first'), ('~crossfade_last', 'last')) t(name, called);
  end if;
  if v_keys then
    perform crossfade_private.make_mirror_function('key', '() returns trigger', pieces,
      'pg_catalog, pg_temp');
    perform crossfade_private.make_mirror_trigger('~crossfade_key', 'before update on {source}
      for each row when (pg_catalog.pg_trigger_depth() > 0
        and coalesce(pg_catalog.current_setting({new_key}, true), '''') <> '''')', 'key', pieces);
  end if;
end $$;

comment on function crossfade_private.install_settling is
  'Create the row triggers of a table with BEFORE ROW triggers of its owner''s, or with a key that is GENERATED ALWAYS AS IDENTITY.';

create or replace function crossfade_private.remove_mirror(pair crossfade.pairs, side integer)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '2s'
as $$
declare
  v_prefix constant text := format('mirror_%s_v%s_', (pair).name, side);
  v_found record;
begin
  -- By function and argument: the table may have another name by now.
  for v_found in
    select g.tgname, g.tgrelid::regclass as tab
    from pg_catalog.pg_trigger g
    join pg_catalog.pg_proc f on f.oid = g.tgfoid
    where f.pronamespace = 'crossfade_private'::regnamespace and not g.tgisinternal
      and (left(f.proname, length(v_prefix)) = v_prefix
        or f.proname = any (case side when 1 then '{refuse_archived_write,drop_archived_row}'
          else '{refuse_fenced_write}' end::text[])
          and g.tgargs = convert_to((pair).name, 'UTF8') || '\x00')
    order by g.tgname
  loop
    execute format('drop trigger %I on %s', v_found.tgname, v_found.tab);
  end loop;
  for v_found in
    select f.oid::regprocedure as name
    from pg_catalog.pg_proc f
    where f.pronamespace = 'crossfade_private'::regnamespace
      and left(f.proname, length(v_prefix)) = v_prefix
      and substr(f.proname, length(v_prefix) + 1) ~ '^[a-z]+$'
  loop
    execute format('drop function %s', v_found.name);
  end loop;
end $$;

comment on function crossfade_private.remove_mirror is
  'Drop the triggers and functions of one side. Takes ACCESS EXCLUSIVE on that table (waits at most 2 s): never part of a rollback.';

create or replace function crossfade_private.remove_older(pair crossfade.pairs)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '2s'
as $$
declare
  v_older constant oid[] := array(
    select f.oid from pg_catalog.pg_proc f
    where f.pronamespace = 'crossfade_private'::regnamespace
      and f.proname ~ format('^mirror_%s_v[12]_[a-z]+$', (pair).name)
      -- The first line says who made it; the constants of the state have none.
      and f.prosrc ~ '^\s*-- crossfade '
      and f.prosrc !~ format('^\s*-- crossfade %s:',
        replace(crossfade_private.generator(), '.', '\.')));
  v_gone text;
begin
  for v_gone in
    select format('drop trigger %I on %s', g.tgname, g.tgrelid::regclass)
    from pg_catalog.pg_trigger g where g.tgfoid = any (v_older)
    union all
    select format('drop function %s', o::regprocedure) from unnest(v_older) o
  loop
    execute v_gone;
  end loop;
end $$;

comment on function crossfade_private.remove_older is
  'Drop triggers and functions that another release made for a pair and this one does not. Where there are such triggers, takes ACCESS EXCLUSIVE on their table (waits at most 2 s).';

create or replace function crossfade_private.install_pair(
  pair crossfade.pairs, plans jsonb default null
)
returns crossfade.pairs
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_plans jsonb := coalesce(plans, crossfade_private.plan_mirrors(pair));
  v_row crossfade.pairs;
  v_mirror text;
begin
  -- Order matters: whoever changes the mirror's state holds this row, so what is read here stays.
  select p.* into v_row from crossfade.pairs p where p.name = (install_pair.pair).name
  for no key update;
  select m.mirror into v_mirror from crossfade_private.mirror_state m where m.pair = v_row.name;
  perform crossfade_private.install_mirror(v_row, 1, v_plans -> 0);
  perform crossfade_private.install_mirror(v_row, 2, v_plans -> 1);
  perform crossfade_private.remove_older(v_row);
  if v_mirror in ('archived', 'reverse') then
    perform crossfade_private.install_archive(v_row);
  end if;
  perform crossfade_private.mend_state(v_row.name);
  update crossfade.pairs p set generator = crossfade_private.generator()
  where p.name = (install_pair.pair).name returning * into v_row;
  return v_row;
end $$;

comment on function crossfade_private.install_pair is
  'Generate the mirror of both sides with the texts of this release, and say so in crossfade.pairs.generator. plans: those of plan_mirrors. Locks as install_mirror.';

-- mirror/registration.sql -------------------------------------------------------------------------

-- Registering a pair: refuse what cannot be mirrored; then install.

create or replace function crossfade.register_pair(
  name text, v1 text, v2 text, to_v2 text, to_v1 text, key text[] default null,
    options jsonb default '{}'
)
returns jsonb
language plpgsql volatile
security definer -- creates triggers on the owner's tables; only service_role may call it
set search_path = pg_catalog, pg_temp
as $$
declare
  v_row crossfade.pairs := crossfade_private.pair_row(
    name, v1, v2, coalesce(to_v2, ''), coalesce(to_v1, ''), key, options);
  v_known crossfade.pairs;
  v_problems text[];
begin
  select p.* into v_known from crossfade.pairs p where p.name = register_pair.name
  for no key update;
  perform crossfade_private.refuse_retired(v_known, 'register');
  if (v_known).name is not null and (v_known.v1_table, v_known.v2_table, v_known.key_columns,
      v_known.v2_key_columns) is distinct from (v_row.v1_table, v_row.v2_table,
      v_row.key_columns, v_row.v2_key_columns) then
    perform crossfade_private.fail(409, 'CF016',
      format('Pair "%s" exists with other tables or another key', name),
      jsonb_build_object('pair', name, 'v1', v_known.v1_table, 'v2', v_known.v2_table, 'key',
        v_known.key_columns),
      'Remove it first (crossfade pair remove), or choose another name.');
  end if;
  -- What an operator has said since the pair was written down stays.
  v_row.options := coalesce((
      select jsonb_object_agg(o.key, o.value) from jsonb_each(v_known.options) o
      where o.key in ('ignore_dependents', 'group')), '{}') || v_row.options;
  select array_agg(p) into v_problems from crossfade_private.registration_problems(v_row) p;
  if v_problems is not null then
    perform crossfade_private.fail(400, 'CF008',
      format('Cannot register pair "%s": %s', name, array_to_string(v_problems, '; ')),
      jsonb_build_object('pair', name, 'problems', to_jsonb(v_problems)),
        'Change what is named, then register again.');
  end if;
  perform crossfade_private.set_reason(coalesce(crossfade_private.reason(), 'register_pair'));
  perform set_config('crossfade.engine', 'on', true);
  insert into crossfade.pairs as p (
    name, v1_table, v2_table, to_v2, to_v1, key_columns, v2_key_columns, gate_flag, options,
    fingerprint, converter_hash, step_flags_version)
  values (
    v_row.name, v_row.v1_table, v_row.v2_table, v_row.to_v2, v_row.to_v1, v_row.key_columns,
      v_row.v2_key_columns,
    v_row.gate_flag, v_row.options,
    crossfade_private.table_fingerprint(v_row.v1_table::regclass, v_row.v2_table::regclass),
    crossfade_private.converter_hash(v_row.to_v2, v_row.to_v1), crossfade.flags_version())
  on conflict on constraint pairs_pkey do update
  set to_v2 = excluded.to_v2, to_v1 = excluded.to_v1, gate_flag = excluded.gate_flag,
    options = excluded.options, fingerprint = excluded.fingerprint,
    converter_hash = excluded.converter_hash
  returning * into v_row;
  insert into crossfade_private.mirror_state as m (pair, failure_policy)
  values (v_row.name, coalesce(options ->> 'failure_policy', 'record'))
  on conflict on constraint mirror_state_pkey do update
  set failure_policy = excluded.failure_policy where m.failure_policy <> excluded.failure_policy;
  insert into crossfade.cohorts (pair, cohort_key)
  values (v_row.name, coalesce(options ->> 'cohort_key', v_row.name))
  on conflict on constraint cohorts_pkey do nothing;
  perform set_config('crossfade.engine', '', true);
  v_row := crossfade_private.install_pair(v_row);
  return jsonb_build_object('pair', to_jsonb(v_row), 'warnings',
    crossfade_private.pair_warnings(v_row),
    'already', v_known.name is not null);
end $$;

comment on function crossfade.register_pair is
  'Register two tables as a pair and install the mirror triggers, switched off (stage off). Safe to repeat: a changed converter is taken up and must be verified again. options: failure_policy record|raise, gate_flag, cohort_key, v2_key, group (kept when it is not given again; null takes it back). Locks both tables SHARE ROW EXCLUSIVE for milliseconds. Errors: CF008 with detail.problems, CF012, CF016.';

create or replace function crossfade.unregister_pair(pair text, reason text)
returns jsonb
language plpgsql volatile
security definer -- drops triggers on the owner's tables; only service_role may call it
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pair crossfade.pairs := crossfade_private.get_pair(pair);
  v_policies constant text[] := array(select crossfade_private.client_policies(pair));
begin
  perform crossfade_private.require_reason(reason, format('remove pair "%s"', pair));
  if v_pair.stage not in ('off', 'complete') then
    perform crossfade_private.fail(409, 'CF005',
      format('Cannot remove pair "%s": it is in stage %s', pair, v_pair.stage),
      jsonb_build_object('pair', pair, 'stage', v_pair.stage),
        'Set the stage to off (or complete) first: crossfade stage set PAIR STAGE.');
  end if;
  if v_policies <> '{}' then
    perform crossfade_private.fail(409, 'CF005',
      format('Cannot remove pair "%s": policies ask which backend serves a user of it: %s', pair,
      array_to_string(v_policies, ', ')),
      jsonb_build_object('pair', pair, 'policies', to_jsonb(v_policies)),
      format('First: drop policy %s', v_policies[1]));
  end if;
  perform crossfade_private.remove_mirror(v_pair, 1);
  perform crossfade_private.remove_mirror(v_pair, 2);
  execute format('drop sequence if exists crossfade_private.mirror_%s_changes', pair);
  perform crossfade_private.drop_counters(pair);
  perform set_config('crossfade.engine', 'on', true);
  delete from crossfade.pairs p where p.name = unregister_pair.pair;
  perform set_config('crossfade.engine', '', true);
  return jsonb_build_object('pair', pair, 'removed', true, 'flags_version',
    crossfade.flags_version());
end $$;

comment on function crossfade.unregister_pair is
  'Remove triggers, generated functions and rows of a pair; both tables and their data stay. Only in stage off or complete (CF005). Takes ACCESS EXCLUSIVE on both tables, waits at most 2 s for it.';

-- mirror/refresh.sql ------------------------------------------------------------------------------

-- A release makes the mirrors of all pairs anew, with its own texts.

create or replace function crossfade.refresh_pair(pair text)
returns jsonb
language plpgsql volatile
security definer -- creates triggers on the owner's tables; only service_role may call it
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pair crossfade.pairs := crossfade_private.get_pair(pair);
  v_before text := v_pair.generator;
begin
  perform crossfade_private.refuse_retired(v_pair, 'refresh');
  v_pair := crossfade_private.install_pair(v_pair);
  return jsonb_build_object('pair', pair, 'before', v_before, 'after', v_pair.generator,
    'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.refresh_pair is
  'Make the mirror of a pair anew, with the texts of the installed release and for the triggers that its tables have now: {"pair", "before", "after": releases, "flags_version"}. Changes nothing else. Locks each table SHARE ROW EXCLUSIVE for milliseconds; waits at most 2 s for it (55P03). CF001.';

create or replace function crossfade_private.plan_pairs()
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pair crossfade.pairs;
  v_plans jsonb := '{}'::jsonb;
begin
  for v_pair in
    select p.* from crossfade.pairs p where p.stage <> 'retired' order by p.name
  loop
    begin
      v_plans := v_plans || jsonb_build_object(
        v_pair.name, crossfade_private.plan_mirrors(v_pair));
    exception when others then
      null; -- refresh_pairs meets the same and says so
    end;
  end loop;
  return v_plans;
end $$;

comment on function crossfade_private.plan_pairs is
  'By pair, what refresh_pairs takes long to find out. Locks nothing.';

create or replace function crossfade_private.hold_tables(tables text[])
returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
-- Shorter than deadlock_timeout: it is the migration that gives way, and no writer sees a deadlock.
set lock_timeout = '800ms'
as $$
begin
  for v_attempt in 1..3 loop
    begin
      execute format('lock table %s in share row exclusive mode', array_to_string(tables, ', '));
      return true;
    exception when lock_not_available or deadlock_detected then
      -- A short wait, again and again: a long one would queue every writer behind it.
      perform pg_sleep(0.2);
    end;
  end loop;
  return false;
end $$;

comment on function crossfade_private.hold_tables is
  'Lock tables SHARE ROW EXCLUSIVE until the transaction ends, all or none of them; false when that was not possible in 3 times 0.8 s.';

create or replace function crossfade_private.hold_writers()
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_tables text[][] := array(
    select array[p.v1_table, p.v2_table] from crossfade.pairs p
    where to_regclass(p.v1_table) is not null and to_regclass(p.v2_table) is not null
      and p.stage <> 'retired'
    order by p.name);
  v_pair text[];
begin
  if v_tables = '{}' or crossfade_private.hold_tables(array(select unnest(v_tables))) then
    return;
  end if;
  foreach v_pair slice 1 in array v_tables loop
    perform crossfade_private.hold_tables(v_pair);
  end loop;
end $$;

comment on function crossfade_private.hold_writers is
  'Let nobody write the tables of pairs until the transaction ends; a pair with a writer that does not end is left alone.';

create or replace function crossfade_private.refresh_pairs(plans jsonb)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pair crossfade.pairs;
begin
  -- A mirror that rests in stage retired is made anew on the way back.
  for v_pair in
    select p.* from crossfade.pairs p where p.stage <> 'retired' order by p.name
  loop
    begin
      perform crossfade_private.install_pair(v_pair, plans -> v_pair.name);
    exception when others then
      raise warning 'crossfade: the mirror of pair "%" is still that of release %: %', v_pair.name,
        v_pair.generator, sqlerrm using hint = format('crossfade pair refresh %s', v_pair.name);
    end;
  end loop;
end $$;

comment on function crossfade_private.refresh_pairs is
  'Make the mirrors of all pairs anew, with what plan_pairs found. A pair whose tables stay locked, or that cannot be mirrored any more, keeps what it has, with a WARNING; from then on that is a blocker and a finding of doctor.';

-- runs/runs.sql -----------------------------------------------------------------------------------

-- A run: how it is shown, paused and stopped.

create or replace function crossfade_private.run_json(run bigint)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'id', r.id, 'kind', r.kind, 'pair', r.pair, 'direction', r.direction, 'state', r.state,
    'reason', r.reason, 'rows_total', r.rows_total, 'swept_rows', r.swept_rows,
    'rows_done', g.rows_done, 'rows_written', g.rows_written, 'mismatches', g.mismatches,
    'batches', g.batches, 'batch_rows', g.batch_rows, 'ranges', g.ranges,
    'ranges_done', g.ranges_done,
    'started_at', r.started_at, 'progress_at', g.progress_at, 'finished_at', r.finished_at)
  from crossfade.runs r
  cross join lateral (
    select sum(a.rows_done) rows_done, sum(a.rows_written) rows_written,
      sum(a.mismatches) mismatches,
      sum(a.batches) batches, max(a.batch_rows) batch_rows, count(*) ranges,
      count(*) filter (where a.done) ranges_done, max(a.progress_at) progress_at
    from crossfade.run_ranges a where a.run = r.id
  ) g
  where r.id = run_json.run;
$$;

comment on function crossfade_private.run_json is 'A run with the sums over its ranges.';

create or replace function crossfade_private.get_run(run bigint)
returns crossfade.runs
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_run crossfade.runs;
begin
  select r.* into v_run from crossfade.runs r where r.id = get_run.run;
  if not found then
    perform crossfade_private.fail(404, 'CF009',
      format('Unknown run %s', coalesce(get_run.run::text, 'null')),
      jsonb_build_object('run', get_run.run), 'crossfade backfill status lists the runs.');
  end if;
  return v_run;
end $$;

comment on function crossfade_private.get_run is 'The run''s row; CF009 when there is none.';

create or replace function crossfade.run_status(run bigint)
returns jsonb
language plpgsql stable
security definer -- API roles hold no right on crossfade_private
set search_path = pg_catalog, pg_temp
as $$
begin
  perform crossfade_private.get_run(run);
  return jsonb_build_object('run', crossfade_private.run_json(run), 'flags_version',
    crossfade.flags_version());
end $$;

comment on function crossfade.run_status is 'Progress of a run. CF009 for an unknown id.';

create or replace function crossfade.control_run(run bigint, action text, reason text default null)
returns jsonb
language plpgsql volatile
security definer -- runs are changed by functions only
set search_path = pg_catalog, pg_temp
as $$
declare
  v_run crossfade.runs := crossfade_private.get_run(run);
  v_state text := case action when 'pause' then 'paused' when 'resume' then 'running' when 'cancel'
    then 'cancelled' end;
begin
  if v_state is null then
    perform crossfade_private.fail(400, 'CF012', format('Unknown action "%s"', action),
      jsonb_build_object('action', action), 'Use pause, resume or cancel.');
  end if;
  -- Locks the run after the batches of all workers: a worker holds it only at the end of a batch.
  select r.* into v_run from crossfade.runs r where r.id = control_run.run for update;
  if v_run.state not in ('running', 'paused') and v_run.state <> v_state then
    perform crossfade_private.fail(409, 'CF010',
      format('Cannot %s run %s: it is %s', action, run, v_run.state),
      jsonb_build_object('run', run, 'state', v_run.state), 'Start a new run.');
  end if;
  if v_run.state <> v_state then
    update crossfade.runs r
    set state = v_state, reason = control_run.reason,
      finished_at = case when v_state = 'cancelled' then clock_timestamp() end
    where r.id = control_run.run;
    perform crossfade_private.audit(format('%s.%s', v_run.kind, action), v_run.pair, reason, null,
      crossfade_private.run_json(run));
  end if;
  return jsonb_build_object('run', crossfade_private.run_json(run));
end $$;

comment on function crossfade.control_run is
  'Pause, resume or cancel a run; a batch under way ends first. Safe to repeat. CF009, CF010 when it has ended, CF012.';

create or replace function crossfade_private.run_pieces(pair crossfade.pairs, direction text)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- With the path that triggers of the owner's see. And not as it is stored: compressed, it would
  -- be unpacked for each piece that is taken of it.
  select q.pieces || jsonb_build_object('target_path',
    crossfade_private.owner_search_path(to_regclass(q.pieces ->> 'target')))
  from crossfade_private.pair_pieces q
  where q.pair = (run_pieces.pair).name
    and q.side = case run_pieces.direction when 'v1_to_v2' then 1 else 2 end;
$$;

comment on function crossfade_private.run_pieces is
  'SQL fragments of the pair with the source of the direction as the source.';

create or replace function crossfade_private.converters_version(pair crossfade.pairs)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select string_agg(p.oid || ' ' || p.xmin, ', ' order by p.oid)
  from pg_catalog.pg_proc p
  where p.oid in (to_regproc((pair).to_v2), to_regproc((pair).to_v1));
$$;

comment on function crossfade_private.converters_version is
  'Which rows of the catalog hold the two converters: another text once one was replaced. Cheaper than their hash, and blind to functions that they call.';

-- runs/sessions.sql -------------------------------------------------------------------------------

-- Naming the sessions that somebody has to wait for. Never what they execute: that holds values.

create or replace function crossfade_private.sessions(pids integer[])
returns jsonb
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_agg(jsonb_build_object(
    'pid', a.pid, 'user', a.usename, 'application', nullif(a.application_name, ''),
    'state', a.state, 'transaction_s',
    round(extract(epoch from clock_timestamp() - a.xact_start)::numeric, 1),
    'query_started_at', a.query_start) order by a.xact_start, a.pid), '[]')
  from pg_catalog.pg_stat_activity a where a.pid = any (pids);
$$;

comment on function crossfade_private.sessions is
  'Sessions as [{"pid", "user", "application", "state", "transaction_s": age of the transaction, "query_started_at"}], the oldest transaction first. What this role may not see is null.';

create or replace function crossfade_private.prepared_transactions(numbers xid[])
returns jsonb
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_agg(jsonb_build_object(
    'pid', null, 'user', x.owner, 'application', null, 'state', 'prepared', 'prepared', x.gid,
    'transaction_s', round(extract(epoch from clock_timestamp() - x.prepared)::numeric, 1),
    'query_started_at', null) order by x.prepared), '[]')
  from pg_catalog.pg_prepared_xacts x where x.transaction = any (numbers);
$$;

comment on function crossfade_private.prepared_transactions is
  'Prepared transactions as sessions() shows sessions; "prepared" is the name to commit or roll back.';

create or replace function crossfade_private.name_sessions(sessions jsonb)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select string_agg(format('%s of %s (%s%s%s)',
    coalesce('session ' || (s.session ->> 'pid'),
      'prepared transaction ' || (s.session -> 'prepared')::text),
    coalesce(s.session ->> 'user', 'an unknown user'),
    coalesce((s.session -> 'application')::text || ', ', ''),
    coalesce(format('transaction open for %s s', s.session ->> 'transaction_s'), 'age not visible'),
    coalesce(format(', last query began at %s UTC',
      to_char((s.session ->> 'query_started_at')::timestamptz at time zone 'UTC',
        'HH24:MI:SS')), '')),
    ', ' order by s.n)
  from jsonb_array_elements(sessions) with ordinality s(session, n)
  where s.n <= 3 and s.session <> 'null';
$$;

comment on function crossfade_private.name_sessions is
  'The first three sessions for people; null when there is none.';

create or replace function crossfade_private.lock_holders(tables regclass[])
returns jsonb
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  -- Row locks are in no view. Who has written one of the tables, or a parent that its rows refer
  -- to, in a transaction that is still open, is who may hold the row.
  select coalesce((
    select jsonb_path_query_array(
      crossfade_private.sessions(array_agg(distinct l.pid)), '$[0 to 2]')
    from pg_catalog.pg_locks l
    where l.locktype = 'relation' and l.granted and l.pid <> pg_backend_pid()
      and l.database = (select d.oid from pg_catalog.pg_database d
        where d.datname = current_database())
      and l.mode not in ('AccessShareLock', 'ShareUpdateExclusiveLock')
      and (l.relation = any (tables::oid[]) or l.relation in (
        select c.confrelid from pg_catalog.pg_constraint c
        where c.contype = 'f' and c.conrelid = any (tables::oid[])))), '[]');
$$;

comment on function crossfade_private.lock_holders is
  'The three oldest transactions of others that may hold a row of the tables, or of what they refer to.';

create or replace function crossfade_private.locked_reason(what text, tables regclass[])
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_blocking jsonb;
begin
  -- What was seen of sessions at the beginning of the transaction is old by now.
  perform pg_stat_clear_snapshot();
  v_blocking := crossfade_private.lock_holders(tables);
  return jsonb_build_object('blocking', v_blocking, 'reason',
    concat_ws(', probably by ', what, crossfade_private.name_sessions(v_blocking)));
end $$;

comment on function crossfade_private.locked_reason is
  'What was waited for in vain (55P03), and for whom: {"reason", "blocking"}.';

create or replace function crossfade_private.lock_blockers()
returns jsonb
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(crossfade_private.sessions(array_agg(distinct b.pid)), '[]')
  from pg_catalog.pg_stat_activity a
  cross join lateral unnest(pg_blocking_pids(a.pid)) b(pid)
  where a.backend_type = 'client backend' and a.wait_event_type = 'Lock'
    and not exists (
      select from pg_catalog.pg_stat_activity w where w.pid = b.pid and w.wait_event_type = 'Lock');
$$;

comment on function crossfade_private.lock_blockers is
  'Sessions that others wait for and that wait for nobody themselves. Stops the lock manager for a moment.';

-- runs/pace.sql -----------------------------------------------------------------------------------

-- How fast batches may go: at full speed while nobody else uses the database, else for a share of
-- the time, so that clients notice little.

create or replace function crossfade_private.others_transactions(run bigint)
returns bigint
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select pg_stat_get_db_xact_commit(d.oid) + pg_stat_get_db_xact_rollback(d.oid) - (
    select coalesce(sum(a.batches), 0) from crossfade.run_ranges a
    where a.run = others_transactions.run)::bigint
  from pg_catalog.pg_database d where d.datname = current_database();
$$;

comment on function crossfade_private.others_transactions is
  'Transactions that ever ended in this database, without the batches of the run.';

create or replace function crossfade_private.look_at_load(run_range crossfade.run_ranges)
returns crossfade.run_ranges
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_range crossfade.run_ranges := run_range;
  v_seconds double precision := extract(
    epoch from clock_timestamp() - (run_range).load_seen_at);
begin
  -- The others count their transactions at most once a second; ours are counted at once, or they
  -- would be taken for somebody else's a second later.
  perform pg_stat_force_next_flush();
  if v_range.load_seen is not null and v_seconds < 2 then
    return v_range;
  end if;
  v_range.load_seen := crossfade_private.others_transactions(v_range.run);
  v_range.load_seen_at := clock_timestamp();
  -- After a pause, or when the counters were reset, nothing is known again.
  v_range.is_busy := v_seconds > 30 or (run_range).load_seen is null
    or v_range.load_seen < (run_range).load_seen
    or v_range.load_seen - (run_range).load_seen
      >= v_seconds * crossfade_private.setting_number('batch_idle_transactions_per_s');
  return v_range;
end $$;

comment on function crossfade_private.look_at_load is
  'The range with is_busy as it is now: measured every two seconds, true while nothing is known.';

create or replace function crossfade_private.target_ms(
  run_range crossfade.run_ranges, wanted_ms integer
)
returns integer
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(wanted_ms, crossfade_private.setting_number(case when (run_range).is_busy
    then 'batch_target_ms' else 'batch_idle_target_ms' end)::integer);
$$;

comment on function crossfade_private.target_ms is
  'Milliseconds that the next batch aims at: what its caller wants, else what the load allows.';

create or replace function crossfade_private.wait_ms(
  run_range crossfade.run_ranges, batch_ms numeric, ease numeric
)
returns integer
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  -- Workers share what is allowed: one that was seen within five seconds counts.
  select case when (run_range).is_busy then least(10000, batch_ms * (
    100 * greatest(1, (
      select count(*) from crossfade.run_ranges a
      where a.run = (run_range).run and not a.done and a.batches > 0
        and a.progress_at > clock_timestamp() - interval '5 s'))
    / (crossfade_private.setting_number('batch_duty_pct') * ease) - 1))::integer
    else 0 end;
$$;

comment on function crossfade_private.wait_ms is
  'Milliseconds until the next batch of the same worker, by setting batch_duty_pct; ease (above 0, up to 1) makes that share smaller.';

-- runs/throttling.sql -----------------------------------------------------------------------------

-- Reasons to do no batch just now: the load of the server, and what clients notice of it.

create or replace function crossfade_private.v1_answers(pair text, since timestamptz)
returns table (requests bigint, p95_ms double precision, error_rate numeric)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with counted as (
    select r.outcome, r.latency_bucket, r.requests from crossfade.request_minutes r
    where r.pair = v1_answers.pair and r.minute >= date_trunc('minute', since)
      and r.backend_version = 1 and r.outcome in ('ok', 'error')
  )
  select coalesce(sum(c.requests), 0)::bigint,
    crossfade_private.quantile_ms((
      select array_agg(coalesce(h.requests, 0)::bigint order by b)
      from generate_series(0, 79) b
      left join (
        select k.latency_bucket, sum(k.requests) as requests from counted k
        group by k.latency_bucket) h on h.latency_bucket = b), 0.95),
    sum(c.requests) filter (where c.outcome = 'error') / nullif(sum(c.requests), 0)
  from counted c;
$$;

comment on function crossfade_private.v1_answers is
  'How backend 1 has answered since a minute: requests, their p95 in ms and share of errors (null without requests).';

create or replace function crossfade_private.load_reason()
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_active bigint;
  v_waiting bigint;
  v_lag_s numeric;
  v_limit numeric := crossfade_private.setting_number('throttle_active_sessions');
  v_blocking jsonb;
begin
  select count(*) filter (where s.state = 'active'),
    count(*) filter (where s.wait_event_type = 'Lock')
  into v_active, v_waiting
  from pg_catalog.pg_stat_activity s
  where s.backend_type = 'client backend' and s.pid <> pg_backend_pid();
  if v_active > v_limit then
    return jsonb_build_object(
      'reason', format('%s sessions are active (limit %s)', v_active, v_limit));
  end if;
  v_limit := crossfade_private.setting_number('throttle_lock_waits');
  if v_waiting > v_limit then
    v_blocking := crossfade_private.lock_blockers();
    return jsonb_build_object('blocking', v_blocking, 'reason', concat_ws(', for ',
      format('%s sessions wait for a lock (limit %s)', v_waiting, v_limit),
      crossfade_private.name_sessions(v_blocking)));
  end if;
  v_limit := crossfade_private.setting_number('throttle_replay_lag_s');
  select extract(epoch from max(r.replay_lag))::numeric into v_lag_s
  from pg_catalog.pg_stat_replication r;
  if v_lag_s > v_limit then
    return jsonb_build_object(
      'reason', format('a replica is %s s behind (limit %s)', round(v_lag_s, 1), v_limit));
  end if;
  return null;
end $$;

comment on function crossfade_private.load_reason is
  'Why batches should wait, by the settings throttle_* for sessions, lock waits and replication lag: {"reason", "blocking"?}, or null.';

create or replace function crossfade_private.throttle_reason()
returns text
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select crossfade_private.load_reason() ->> 'reason';
$$;

comment on function crossfade_private.throttle_reason is
  'Why a batch of any run should wait now, or null.';

create or replace function crossfade_private.renew_baseline(run crossfade.runs)
returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_last timestamptz;
  v_began boolean;
  v_now record;
begin
  select max(a.progress_at), bool_or(a.batches > 0) into v_last, v_began
  from crossfade.run_ranges a where a.run = (renew_baseline.run).id;
  -- Only the minutes in which no batch ran: the first whole one after the last batch, and later. A
  -- run that has done no batch yet has slowed nobody down.
  select * into v_now from crossfade_private.v1_answers((run).pair, case when v_began
    then v_last + interval '1 minute' else clock_timestamp() - interval '1 minute' end) v;
  if v_began and clock_timestamp() < date_trunc('minute', v_last) + interval '2 minutes'
    or v_now.requests < crossfade_private.setting_number('throttle_min_requests') then
    return false;
  end if;
  update crossfade.runs r
  set v1_requests = v_now.requests, v1_p95_ms = v_now.p95_ms, v1_error_rate = v_now.error_rate
  where r.id = (renew_baseline.run).id;
  return true;
end $$;

comment on function crossfade_private.renew_baseline is
  'When V1 has answered for a whole minute without any batch beside it, that is how it answers: the run is held to that. False when there is no such time yet.';

create or replace function crossfade_private.throttle(run crossfade.runs)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_reason jsonb := crossfade_private.load_reason();
  v_enough numeric := crossfade_private.setting_number('throttle_min_requests');
  v_limit_ms double precision;
  v_now record;
  v_text text;
begin
  if v_reason is not null or (run).v1_requests < v_enough then
    return coalesce(v_reason, '{"ease": 1}'::jsonb);
  end if;
  -- This minute and the one before.
  select * into v_now from crossfade_private.v1_answers(
    (run).pair, greatest((run).started_at, clock_timestamp() - interval '1 minute')) v;
  if v_now.requests < v_enough then
    return '{"ease": 1}'::jsonb;
  end if;
  v_limit_ms := greatest(
    (run).v1_p95_ms * crossfade_private.setting_number('throttle_latency_factor')::float8,
    (run).v1_p95_ms + crossfade_private.setting_number('throttle_min_difference_ms')::float8);
  v_text := case
    when v_now.error_rate > coalesce((run).v1_error_rate, 0)
      + crossfade_private.setting_number('throttle_error_rate')
      then format('V1 answers %s %% of its requests with errors, before the run %s %%',
        round(100 * v_now.error_rate, 1), round(100 * coalesce((run).v1_error_rate, 0), 1))
    when v_now.p95_ms > v_limit_ms
      then format('V1 is slow: p95 %s ms, before the run %s ms (limit %s)',
        round(v_now.p95_ms::numeric, 1), round((run).v1_p95_ms::numeric, 1),
        round(v_limit_ms::numeric, 1)) end;
  if v_text is not null and not crossfade_private.renew_baseline(run) then
    return jsonb_build_object('reason', v_text);
  end if;
  -- The nearer the limit, the slower: without that, batches would stop and start by the minute. But
  -- no slower than a quarter: so few requests make a p95 that is near the limit by chance, too.
  return jsonb_build_object('ease', round(greatest(0.25, least(1,
    (v_limit_ms - v_now.p95_ms) / (v_limit_ms - (run).v1_p95_ms)))::numeric, 3));
end $$;

comment on function crossfade_private.throttle is
  'Whether a batch of the run should wait: {"reason", "blocking"?}, else {"ease"}: 1, or less the slower V1 is than before the run. Sessions, lock waits, replication lag, p95 and errors of V1, by the settings throttle_*.';

-- runs/waiting.sql --------------------------------------------------------------------------------

-- What batches wait for: the end of a release's installation, and those who were writing before
-- mirroring was on.

create or replace function crossfade_private.release_reason(pair crossfade.pairs)
returns text
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select case
    when not pg_try_advisory_xact_lock_shared(crossfade_private.release_lock_key())
      then 'a release of crossfade is being installed'
    when (pair).generator <> crossfade_private.generator()
      then format('its mirror is of crossfade %s and not of %s; run: crossfade pair refresh %s',
        (pair).generator, crossfade_private.generator(), (pair).name)
  end;
$$;

comment on function crossfade_private.release_reason is
  'Why nothing may work on a pair''s rows now, or null: a release is being installed, or it has not refreshed the pair. Keeps the next release off until the transaction ends.';

create or replace function crossfade_private.older_writers(run crossfade.runs)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_since bigint;
  v_older xid[];
  v_blocking jsonb;
begin
  -- Transactions that wrote before mirroring was on may still commit rows that nobody mirrored. The
  -- last of them got its number before the switch was committed, which it is by now.
  update crossfade.pairs p set stage_xid = pg_snapshot_xmax(pg_current_snapshot())::text::bigint,
    stage_server_started_at = pg_postmaster_start_time()
  where p.name = (run).pair and p.stage_xid is null;
  select p.stage_xid into v_since from crossfade.pairs p
  where p.name = (run).pair and p.stage_server_started_at = pg_postmaster_start_time();
  if pg_snapshot_xmin(pg_current_snapshot())::text::bigint >= v_since or v_since is null then
    return null;
  end if;
  v_older := array(
    select x::xid from pg_snapshot_xip(pg_current_snapshot()) x where x::text::bigint < v_since);
  v_blocking := crossfade_private.sessions(array(
    select a.pid from pg_catalog.pg_stat_activity a where a.backend_xid = any (v_older)))
    || crossfade_private.prepared_transactions(v_older);
  return jsonb_build_object('blocking', v_blocking, 'reason', concat_ws(': ',
    'transactions older than the switch to dualwrite are still open',
    crossfade_private.name_sessions(v_blocking)));
end $$;

comment on function crossfade_private.older_writers is
  'Why the first batches of a run must wait, {"reason", "blocking"}, or null. Sees the open writing transactions of the cluster.';

-- runs/starting.sql -------------------------------------------------------------------------------

-- Starting a run of any kind, with its ranges of keys.

create or replace function crossfade_private.split_keys(
  pieces jsonb, ranges integer, sample_pct real
)
returns table (range integer, after_key jsonb, upto_key jsonb)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
begin
  -- Cuts come from a sample, so that starting a run costs the same on ten rows and on ten million.
  return query execute crossfade_private.render($sql$
    with cf_sample as (
      select {skey_json_s} cf_key, ntile($1) over (order by {skey_s}) cf_part, {skey_s}
      from {source} cf_s tablesample system ($2)
      where $1 > 1
    ),
    cut as (
      select distinct on (cf_sample.cf_part) cf_sample.cf_part, cf_sample.cf_key
      from cf_sample order by cf_sample.cf_part, ({skey_sample}) desc
    ),
    bound (part, k) as (
      select c.cf_part::integer, c.cf_key from cut c where c.cf_part < $1
      union all
      select $1, null
    )
    select row_number() over (order by b.part)::integer, lag(b.k) over (order by b.part), b.k
    from bound b
  $sql$, pieces) using ranges, sample_pct;
end $$;

comment on function crossfade_private.split_keys is
  'Disjoint key ranges of about equal size, cut from a sample; the last one is open above.';

create or replace function crossfade_private.bound_run(run crossfade.runs, pieces jsonb)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_range integer;
  v_last jsonb;
begin
  -- A worker that has the range has bounded it, too.
  select a.range into v_range from crossfade.run_ranges a
  where a.run = (bound_run.run).id and a.upto_key is null and not a.done
  for update skip locked;
  if not found then
    return;
  end if;
  execute crossfade_private.render(
    'select {skey_json_s} from {source} cf_s order by {skey_desc} limit 1', pieces) into v_last;
  update crossfade.run_ranges a set upto_key = v_last, done = v_last is null
  where a.run = (bound_run.run).id and a.range = v_range;
end $$;

comment on function crossfade_private.bound_run is
  'Let a backfill end at the largest key there is, without which inserts could keep it going; an empty table has nothing to copy. Not before those who wrote unmirrored have ended: their rows may have larger keys than any that can be seen.';

create or replace function crossfade_private.estimate_rows(tab regclass)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_plan jsonb;
  v_rows bigint;
begin
  if pg_relation_size(tab) < 1000000 then
    execute format('select count(*) from %s', tab) into v_rows;
    return v_rows;
  end if;
  -- What the planner thinks: by the size of the file as it is now, also without statistics.
  execute format('explain (format json) select from %s', tab) into v_plan;
  return (v_plan #>> '{0,Plan,Plan Rows}')::numeric::bigint;
end $$;

comment on function crossfade_private.estimate_rows is
  'How many rows a table has: counted while it is below 1 MB, else about. Reads no more than that.';

create or replace function crossfade_private.start_run(
  kind text, pair crossfade.pairs, direction text, ranges integer
)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_problems text[] := array(select crossfade_private.mirror_problems(pair));
  v_pieces jsonb;
  v_rows bigint;
  v_v1 record;
  v_run bigint;
begin
  perform crossfade_private.refuse_retired(pair, 'compare or copy rows of');
  if v_problems <> '{}' then
    perform crossfade_private.fail(409, 'CF011',
      format('Cannot start: the tables of "%s" cannot be mirrored any more: %s', (pair).name,
        array_to_string(v_problems, '; ')),
      jsonb_build_object('pair', (pair).name, 'problems', to_jsonb(v_problems)),
      'Change what is named, then register the pair again.');
  end if;
  if (pair).fingerprint <> crossfade_private.table_fingerprint(((pair).v1_table)::regclass,
    ((pair).v2_table)::regclass) then
    perform crossfade_private.fail(409, 'CF011',
      format('Cannot start: the columns of "%s" have changed since it was registered', (pair).name),
      jsonb_build_object('pair', (pair).name), 'Adapt the converters and register the pair again.');
  end if;
  if (pair).converter_hash <> crossfade_private.converter_hash((pair).to_v2, (pair).to_v1) then
    perform crossfade_private.fail(409, 'CF011',
      format('Cannot start: the converters of "%s" have changed since it was registered',
        (pair).name),
      jsonb_build_object('pair', (pair).name),
      'Register the pair again: the mirror may still convert as it did then.');
  end if;
  v_pieces := crossfade_private.run_pieces(pair, direction);
  v_rows := crossfade_private.estimate_rows((v_pieces ->> 'source')::regclass);
  select * into v_v1 from crossfade_private.v1_answers((pair).name, clock_timestamp()
    - crossfade_private.setting_number('health_window_s') * interval '1 s');
  insert into crossfade.runs (kind, pair, direction, rows_total, fingerprint, converter_hash,
    v1_requests, v1_p95_ms, v1_error_rate)
  values (start_run.kind, (pair).name, start_run.direction, v_rows,
    (pair).fingerprint, (pair).converter_hash, v_v1.requests, v_v1.p95_ms, v_v1.error_rate)
  returning id into v_run;
  insert into crossfade.run_ranges (run, range, after_key, upto_key, cursor_key, batch_rows,
    load_seen, converters_seen, converters_seen_at)
  select v_run, s.range, s.after_key, s.upto_key, s.after_key,
    crossfade_private.setting_number('batch_first_rows'),
    crossfade_private.others_transactions(v_run),
    crossfade_private.converters_version(pair), clock_timestamp()
  from crossfade_private.split_keys(v_pieces, start_run.ranges,
    least(100, 2000000 / greatest(v_rows, 1))::real) s;
  return v_run;
end $$;

comment on function crossfade_private.start_run is
  'Create a run and its ranges; rows_total is an estimate. Keeps how V1 answered until now, which its batches are held to.';

-- runs/batches.sql --------------------------------------------------------------------------------

-- What one batch of any run needs besides rows: its size, its end, what must not have changed.

create or replace function crossfade_private.next_batch_rows(
  old_rows bigint, ms_per_1000_rows numeric[], target_ms integer
)
returns integer
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- The servo of Spirit (block/spirit, pkg/table): p90 of the last ten batches, growth at most
  -- 1.5x.
  select greatest(
    crossfade_private.setting_number('batch_min_rows'),
    least(
      crossfade_private.setting_number('batch_max_rows'),
      old_rows * 1.5 + 1,
      target_ms * 1000 / greatest(percentile_disc(0.9) within group (order by m), 0.001)
    )
  )::integer
  from unnest(ms_per_1000_rows) m;
$$;

comment on function crossfade_private.next_batch_rows is
  'Rows of the next batch so that it takes about target_ms.';

create or replace function crossfade_private.finish_batch(
  run_range crossfade.run_ranges, rows_read bigint, rows_written bigint, mismatches bigint,
  batch_ms numeric, fixed_ms numeric, target_ms integer
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_speed numeric[] := (run_range).ms_per_1000_rows;
begin
  if rows_read > 0 then
    -- What a batch costs whatever its rows would make few rows look slow, and the next batch have
    -- even fewer of them.
    v_speed := (v_speed || round(
      greatest(batch_ms - fixed_ms, batch_ms / 5) * 1000 / rows_read, 3))[
      greatest(cardinality(v_speed) - 8, 1):];
  end if;
  update crossfade.run_ranges a
  set cursor_key = (run_range).cursor_key, done = (run_range).done,
    rows_done = a.rows_done + finish_batch.rows_read,
    rows_written = a.rows_written + finish_batch.rows_written,
    mismatches = a.mismatches + finish_batch.mismatches, batches = a.batches + 1,
    ms_per_1000_rows = v_speed, timeouts = (run_range).timeouts,
    -- A batch that ran into a timeout has said already how many rows are next.
    batch_rows = case when rows_read = 0 or (run_range).timeouts > 0 then (run_range).batch_rows
      -- However short its target is, a batch works for twice as long as it takes to begin and end.
      else crossfade_private.next_batch_rows(finish_batch.rows_read, v_speed,
        greatest(target_ms - fixed_ms, 2 * fixed_ms)::integer) end,
    progress_at = case when rows_read > 0 or (run_range).done then clock_timestamp()
      else a.progress_at end,
    converters_seen = (run_range).converters_seen,
    converters_seen_at = (run_range).converters_seen_at,
    is_busy = (run_range).is_busy, load_seen = (run_range).load_seen,
    load_seen_at = (run_range).load_seen_at
  where a.run = (run_range).run and a.range = (run_range).range;
end $$;

comment on function crossfade_private.finish_batch is
  'Keep what a batch did, in its own transaction, with the cursor that run_range has now, and size the next batch. fixed_ms is the part of batch_ms that does not depend on the rows.';

create or replace function crossfade_private.check_unchanged(
  run crossfade.runs, pair crossfade.pairs, run_range crossfade.run_ranges
)
returns crossfade.run_ranges
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_range crossfade.run_ranges := run_range;
  v_seen text;
begin
  if to_regclass((pair).v1_table) is not null and to_regclass((pair).v2_table) is not null
    and (run).fingerprint = crossfade_private.table_fingerprint(
      ((pair).v1_table)::regclass, ((pair).v2_table)::regclass) then
    v_seen := crossfade_private.converters_version(pair);
    -- The hash takes longer than copying fifty rows: functions that the converters call are looked
    -- at once a second.
    if v_seen = (run_range).converters_seen
      and (run_range).converters_seen_at > clock_timestamp() - interval '1 s' then
      return v_range;
    end if;
    if (run).converter_hash = crossfade_private.converter_hash((pair).to_v2, (pair).to_v1) then
      v_range.converters_seen := v_seen;
      v_range.converters_seen_at := clock_timestamp();
      return v_range;
    end if;
  end if;
  perform crossfade_private.fail(409, 'CF011',
    format('Cannot continue run %s: a table or converter of "%s" has changed since it began',
      (run).id, (pair).name),
    jsonb_build_object('run', (run).id, 'pair', (pair).name),
    'Cancel the run, register the pair again, and start a new run.');
  return null;
end $$;

comment on function crossfade_private.check_unchanged is
  'CF011 when the tables or converters are not those the run began with. Returns the range with what was seen of the converters.';

create or replace function crossfade_private.batch_json(run bigint, state text, why jsonb)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'run', j.run, 'state', coalesce(batch_json.state, j.run ->> 'state'),
    'reason', why ->> 'reason', 'blocking', coalesce(why -> 'blocking', '[]'),
    'rows_read', 0, 'rows_written', 0, 'mismatches', 0, 'batch_ms', 0, 'wait_ms', 0,
    'flags_version', crossfade.flags_version())
  from (select crossfade_private.run_json(batch_json.run) run) j;
$$;

comment on function crossfade_private.batch_json is
  'The answer of a batch call before its own figures are added; why is {"reason", "blocking"} or null.';

-- runs/ranges.sql ---------------------------------------------------------------------------------

-- The rows of a batch: a range of keys that nobody else works on, and a part of it.
-- The key has an index, and that is how its rows are read: no statistics are needed for it, which a
-- table may not have, and which can be old.

create or replace function crossfade_private.batch_boundary(
  pieces jsonb, run_range crossfade.run_ranges, both_tables boolean
)
returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $$
declare
  v_boundary jsonb;
begin
  -- JSON is made of one key, not of all that are passed on the way to it.
  execute crossfade_private.render($sql$
    select cf_d.cf_key from (
      select {skey_json_s} as cf_key, {skey_s} from (select {skey_s} from {source} cf_s
      where ($1 is null or ({skey_s}) > ({skey_1})) and ($2 is null or ({skey_s}) <= ({skey_2}))
      order by {skey_s} offset $3 - 1 limit 1) cf_s
      union all
      select {tkey_json_t}, {tkey_t} from (select {tkey_t} from {target} cf_t
      where $4 and ($1 is null or ({tkey_t}) > ({skey_1}))
        and ($2 is null or ({tkey_t}) <= ({skey_2}))
      order by {tkey_t} offset $3 - 1 limit 1) cf_t
    ) cf_d order by {skey_d} limit 1
  $sql$, pieces) into v_boundary
  using (run_range).cursor_key, (run_range).upto_key, (run_range).batch_rows, both_tables;
  return coalesce(v_boundary, (run_range).upto_key);
end $$;

comment on function crossfade_private.batch_boundary is
  'Key up to which the source, or neither table, has more rows than the batch may have; the end of the range when fewer are left (null when it is open).';

create or replace function crossfade_private.claim_range(run crossfade.runs)
returns crossfade.run_ranges
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select a.* from crossfade.run_ranges a
  where a.run = (claim_range.run).id and not a.done
  order by a.range
  limit 1
  for update skip locked;
$$;

comment on function crossfade_private.claim_range is
  'Take a range that no other worker holds, until the transaction ends. A null row when there is none.';

create or replace function crossfade_private.range_rows(
  pieces jsonb, run_range crossfade.run_ranges, boundary jsonb, both_tables boolean
)
returns bigint
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
declare
  v_rows bigint := (run_range).batch_rows;
begin
  -- Of one table, only the last batch of a range can hold other than the rows that were asked for.
  if both_tables or boundary is not distinct from (run_range).upto_key then
    execute crossfade_private.render($sql$
      select greatest((
        select count(*) from {source} cf_s
        where ($1 is null or ({skey_s}) > ({skey_1})) and ($2 is null or ({skey_s}) <= ({skey_2}))
      ), (
        select count(*) from {target} cf_t
        where $3 and ($1 is null or ({tkey_t}) > ({skey_1}))
          and ($2 is null or ({tkey_t}) <= ({skey_2}))))
    $sql$, pieces) into v_rows using (run_range).cursor_key, boundary, both_tables;
  end if;
  return v_rows;
end $$;

comment on function crossfade_private.range_rows is
  'Rows that a batch up to boundary covers: of the source, or of the table that has more.';

create or replace function crossfade_private.range_keys(
  pieces jsonb, after_key jsonb, boundary jsonb, both_tables boolean
)
returns jsonb[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
declare
  v_keys jsonb[];
begin
  execute crossfade_private.render($sql$
    select array_agg(cf_d.cf_key order by {skey_d}) from (
      select {skey_json_s} as cf_key, {skey_s} from {source} cf_s
      where ($1 is null or ({skey_s}) > ({skey_1})) and ($2 is null or ({skey_s}) <= ({skey_2}))
      union
      select {tkey_json_t}, {tkey_t} from {target} cf_t
      where $3 and ($1 is null or ({tkey_t}) > ({skey_1}))
        and ($2 is null or ({tkey_t}) <= ({skey_2}))
    ) cf_d
  $sql$, pieces) into v_keys using after_key, boundary, both_tables;
  return coalesce(v_keys, '{}');
end $$;

comment on function crossfade_private.range_keys is
  'The keys in (after_key, boundary] of the source, or of both tables, in their order; null is open.';

-- runs/writing.sql --------------------------------------------------------------------------------

-- Statements of batches and repairs that lock or write rows of the owner's tables.

create or replace function crossfade_private.write_rows(
  pieces jsonb, template text, first jsonb, last jsonb, keys jsonb[] default null
)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
-- Less than deadlock_timeout: the batch gives way before a client is chosen as the victim.
set lock_timeout = '500ms'
-- PostgreSQL keeps the new rows for the target's own triggers, and in a file beyond this.
set work_mem = '32MB'
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $$
declare
  v_statement constant text := crossfade_private.render(template, pieces);
  v_rows bigint;
begin
  -- Triggers of the owner's fire in this statement, and may name their tables without a schema. The
  -- path ends with this function.
  perform set_config('search_path', pieces ->> 'target_path', true);
  execute v_statement using first, last, keys;
  get diagnostics v_rows = row_count;
  return v_rows;
end $$;

comment on function crossfade_private.write_rows is
  'Execute a template with first as $1, last as $2 and keys as $3; returns the rows written. Waits at most 0.5 s for a lock (55P03); uses up to some 32 MB.';

create or replace function crossfade_private.lock_keys(pieces jsonb, keys jsonb[])
returns jsonb[]
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_one jsonb[];
  v_two jsonb[];
  v_held jsonb[];
begin
  -- SKIP LOCKED: nobody is waited for, so nobody can wait for us in a circle.
  execute crossfade_private.render($sql$
    select array_agg(l.cf_key) from (
      select {skey_json_s} as cf_key from unnest($1) cf_z(key)
      join {source} cf_s on ({skey_s}) = ({skey_z})
      order by {skey_s} for no key update of cf_s skip locked) l
  $sql$, pieces) into v_one using keys;
  execute crossfade_private.render($sql$
    select array_agg(l.cf_key) from (
      select {tkey_json_t} as cf_key from unnest($1) cf_z(key)
      join {target} cf_t on ({tkey_t}) = ({skey_z})
      order by {tkey_t} for no key update of cf_t skip locked) l
  $sql$, pieces) into v_two using keys;
  -- Rows that are there and were not locked are somebody else's at this moment.
  execute crossfade_private.render($sql$
    select array_agg(h.cf_key) from (
      (select {skey_json_s} from unnest($1) cf_z(key)
      join {source} cf_s on ({skey_s}) = ({skey_z}) except select unnest($2))
      union
      (select {tkey_json_t} from unnest($1) cf_z(key)
      join {target} cf_t on ({tkey_t}) = ({skey_z}) except select unnest($3))) h(cf_key)
  $sql$, pieces) into v_held using keys, v_one, v_two;
  return coalesce(v_held, '{}');
end $$;

comment on function crossfade_private.lock_keys is
  'Lock both rows of each key, as far as nobody holds them; returns the keys that somebody does.';

-- runs/copy.sql -----------------------------------------------------------------------------------

-- Copying one batch of a backfill: all rows at once, in smaller parts when one of them is special.

create or replace function crossfade_private.copy_sql(
  range text, on_conflict text default 'on conflict ({target_key}) do nothing',
  excluded text default ''
)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $outer$
  -- SAFETY: FOR SHARE holds off deletes and updates of these rows until the copy is committed; a
  -- newer counterpart is left alone (DO NOTHING) or raises. Without either, stale or deleted rows
  -- would appear.
  select replace(replace(replace($sql$
    insert into {target} ({target_columns}) overriding system value
    select {tcolumns_c}
    from (
      select cf_s.* from {source} cf_s
      where <<range>> <<excluded>>
      order by {skey_s} for share of cf_s
    ) cf_n
    cross join lateral {convert} row(cf_n.*)::{source} {with} null::{target} {converted} cf_c
    <<on_conflict>>
  $sql$, '<<range>>', range), '<<on_conflict>>', on_conflict), '<<excluded>>', excluded);
$outer$;

comment on function crossfade_private.copy_sql is
  'Template of the copying statement; range chooses the rows by $1 and $2, on_conflict is a clause or empty, excluded a further condition.';

create or replace function crossfade_private.owed_sql(key_sql text)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $outer$
  -- Rows are turned into keys, and not keys into values of the table: that may hold fewer.
  select replace($sql$exists (
      select from crossfade.mirror_failures cf_f
      where cf_f.pair = {pair_literal} and <<key>> in (cf_f.key, cf_f.moved_to)
        and cf_f.resolved_at is null
        and (cf_f.written_side = {other} or cf_f.moved_to is not null))$sql$, '<<key>>', key_sql);
$outer$;

comment on function crossfade_private.owed_sql is
  'Template: whether an open failure says that the target is the side that was written, and so what the source will become; or that the row of the key has its counterpart under another one.';

create or replace function crossfade_private.is_free(
  pieces jsonb, after_key jsonb, boundary jsonb
)
returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
declare
  v_free boolean;
begin
  execute crossfade_private.render($sql$
    select not exists (select from {target} cf_t
      where ($1 is null or ({tkey_t}) > ({skey_1})) and ({tkey_t}) <= ({skey_2}))
  $sql$, pieces) into v_free using after_key, boundary;
  return v_free;
end $$;

comment on function crossfade_private.is_free is
  'Whether the target has no row with a key in (after_key, boundary].';

create or replace function crossfade_private.owes_source(pieces jsonb)
returns boolean
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select from crossfade.mirror_failures f
    where f.pair = pieces ->> 'pair' and f.resolved_at is null
      and (f.written_side = (pieces ->> 'other')::integer or f.moved_to is not null));
$$;

comment on function crossfade_private.owes_source is
  'Whether repair owes the source anything: open failures that name the target as the written side, or a counterpart that could not follow a changed key.';

create or replace function crossfade_private.copy_range(
  pieces jsonb, range text, after_key jsonb, boundary jsonb, skips boolean
)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_written bigint := crossfade_private.write_rows(pieces, crossfade_private.copy_sql(range,
    case when skips then 'on conflict ({target_key}) do nothing' else '' end,
    case when crossfade_private.owes_source(pieces)
      then 'and not ' || crossfade_private.owed_sql('{skey_json_s}') else '' end),
    after_key, boundary);
  v_special boolean;
begin
  -- Order matters: look after the copy has waited for every writer of these keys. A failure that
  -- names the target as the written side may be a delete that the copy would undo.
  if v_written > 0 and crossfade_private.owes_source(pieces) then
    execute crossfade_private.render(format($sql$
      select exists (
        select from {source} cf_s where %s and %s
          and exists (select from {target} cf_t where ({tkey_t}) = ({skey_s})
            and crossfade_private.is_of_this_transaction(cf_t.xmin)))
    $sql$, range, crossfade_private.owed_sql('{skey_json_s}')), pieces)
    into v_special using after_key, boundary;
    if v_special then
      raise exception using errcode = 'CF019', message = 'a key of the batch is to be repaired';
    end if;
  end if;
  return v_written;
end $$;

comment on function crossfade_private.copy_range is
  'Copy the rows of a range that the target lacks, but for those that repair owes the source. Locks those source rows FOR SHARE. 23505 when the target has one after all and skips is false, CF019 when repair has come to owe the source a key among them meanwhile.';

create or replace function crossfade_private.copy_keys(
  pieces jsonb, after_key jsonb, keys jsonb[]
)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_size constant integer := cardinality(keys);
  v_step constant integer := greatest(1, v_size / 16);
  v_written bigint := 0;
begin
  if v_size = 0 then
    return 0;
  end if;
  begin
    return crossfade_private.copy_range(pieces, case v_size when 1
      then '({skey_s}) = ({skey_2}) and $1 is null'
      else '($1 is null or ({skey_s}) > ({skey_1})) and ({skey_s}) <= ({skey_2})' end,
      case when v_size > 1 then after_key end, keys[v_size], true);
  exception
    when sqlstate 'CF019' then
      null; -- Repair will do what the failure says.
    when others or assert_failure then
      if crossfade_private.is_transient(sqlstate) then
        raise;
      end if;
      if v_size = 1 then
        -- DO NOTHING: a failure that is open already may name the other side, and then it is right.
        insert into crossfade.mirror_failures (pair, written_side, key, operation, error_code,
          message)
        values (pieces ->> 'pair', (pieces ->> 'side')::smallint, keys[1], 'BACKFILL', sqlstate,
          left(sqlerrm, 500))
        on conflict (pair, key) where resolved_at is null do nothing;
      end if;
  end;
  -- One bad row of 20,000 costs some 60 subtransactions this way, and is the only one left out.
  for v_at in 1..case when v_size > 1 then v_size else 0 end by v_step loop
    v_written := v_written + crossfade_private.copy_keys(pieces,
      case v_at when 1 then after_key else keys[v_at - 1] end, keys[v_at : v_at + v_step - 1]);
  end loop;
  return v_written;
end $$;

comment on function crossfade_private.copy_keys is
  'Copy the rows of these keys, which follow after_key without a gap: all at once, then in sixteenths, then one by one. What the target refuses becomes an open mirror failure, what repair owes the source is left to repair.';

create or replace function crossfade_private.copy_batch(
  pieces jsonb, after_key jsonb, boundary jsonb
)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_skips boolean := not crossfade_private.is_free(pieces, after_key, boundary);
begin
  -- Without ON CONFLICT a row costs one index search and one WAL record less. A counterpart that
  -- is written meanwhile raises, and the second try leaves it alone.
  begin
    return crossfade_private.copy_range(pieces,
      '($1 is null or ({skey_s}) > ({skey_1})) and ({skey_s}) <= ({skey_2})', after_key, boundary,
      v_skips);
  exception when others or assert_failure then
    if crossfade_private.is_transient(sqlstate) then
      raise;
    end if;
  end;
  return crossfade_private.copy_keys(pieces, after_key,
    crossfade_private.range_keys(pieces, after_key, boundary, false));
end $$;

comment on function crossfade_private.copy_batch is
  'Copy a batch; one row that cannot be copied neither stops the run nor goes unnoticed. Returns the rows written.';

-- runs/backfill_end.sql ---------------------------------------------------------------------------

-- The end of a backfill: what was deleted while it ran.

create or replace function crossfade_private.sweep(run crossfade.runs, pieces jsonb)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_swept bigint;
begin
  -- Order matters: the deleters that may leave a tombstone hold this row FOR SHARE until they end,
  -- so the update waits for them, and those who come later see every copy.
  update crossfade_private.mirror_state m set tombstones = false where m.pair = (run).pair;
  execute crossfade_private.render($sql$
    select count(*) from (
      select from {target} cf_t
      join crossfade_private.tombstones cf_z on ({tkey_t}) = ({skey_z})
      where cf_z.pair = $1 and cf_z.side = {side}
      order by {tkey_t} for update of cf_t) l
  $sql$, pieces) into v_swept using (run).pair;
  -- A second statement: it sees the row that somebody inserted anew while the first one waited.
  v_swept := crossfade_private.write_rows(pieces, $sql$
    delete from {target} cf_t
    using crossfade_private.tombstones cf_z
    where cf_z.pair = {pair_literal} and cf_z.side = {side} and ({tkey_t}) = ({skey_z})
      and not exists (select from {source} cf_b where ({skey_b}) = ({skey_z}))
      and not $sql$ || crossfade_private.owed_sql('cf_z.key'), null, null);
  delete from crossfade_private.tombstones z where z.pair = (run).pair;
  return v_swept;
end $$;

comment on function crossfade_private.sweep is
  'Remove copies whose source row was deleted while the backfill ran and whose deleter could not see the copy.';

create or replace function crossfade_private.finish_backfill(
  run crossfade.runs, pair crossfade.pairs, pieces jsonb
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '500ms'
as $$
declare
  v_swept bigint;
begin
  if exists (select from crossfade.run_ranges a where a.run = (finish_backfill.run).id
    and not a.done) then
    return;
  end if;
  -- The last workers may get here together; one of them finishes the run. The pair before the
  -- run, as everywhere: a worker in its first batch may hold the pair already.
  perform from crossfade.pairs p where p.name = (pair).name for no key update;
  perform from crossfade.runs r where r.id = (finish_backfill.run).id
    and r.state = 'running' for update;
  if not found then
    return;
  end if;
  v_swept := crossfade_private.sweep(run, pieces);
  update crossfade.runs r
  set state = 'finished', finished_at = clock_timestamp(), swept_rows = v_swept
  where r.id = (finish_backfill.run).id;
  -- SAFETY: only the rows of V1 that are in V2 open it to users. Copying the other way does not say
  -- that they are.
  update crossfade.pairs p
  set last_backfill_at = case
      when (finish_backfill.run).direction = 'v1_to_v2' or p.last_backfill_at is not null
        then clock_timestamp() end,
    needs_reverse_backfill = p.needs_reverse_backfill
      and (finish_backfill.run).direction <> 'v2_to_v1'
  where p.name = (pair).name;
  perform crossfade_private.open_or_close((pair).name);
  perform crossfade_private.audit(
    'backfill.finish', (pair).name, null, null,
    crossfade_private.run_json((finish_backfill.run).id));
end $$;

comment on function crossfade_private.finish_backfill is
  'When no range is left: sweep, and mark the run and the pair. Waits at most 0.5 s for a lock (55P03).';

-- runs/comparison.sql -----------------------------------------------------------------------------

-- Comparing both tables through the converters, by value.

create or replace function crossfade_private.compare_sql(
  pieces jsonb, range_a text, range_b text
)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $outer$
  -- cf_here and not `cf_row is null`: a composite with one null column is neither null nor not
  -- null. Both directions: to_v2(v1, v2) = v2 and to_v1(v2, v1) = v1. A row of which the converter
  -- makes none has no counterpart, and needs none.
  -- OFFSET 0 keeps PostgreSQL from computing what a converter would raise for a row that it filters
  -- out: a key that the other table cannot hold.
  select crossfade_private.render($sql$
    select case when cf_a.cf_here then {skey_json_a} else {tkey_json_b} end as key,
      case when cf_b.cf_here is null then 'missing_v2' when cf_a.cf_here is null then 'missing_v1'
        else 'different' end as kind,
      case when cf_a.cf_here and cf_b.cf_here then {differing_names} else '{}' end as columns
    from (select cf_t as cf_row, true as cf_here, {skey_t} from {source} cf_t where {range_a}) cf_a
    full join (select cf_t as cf_row, true as cf_here, {tkey_t} from {target} cf_t
      where {range_b}) cf_b
      on ({skey_a}) = ({tkey_b})
    left join lateral (
      select cf_x.*, true as cf_is
      from {convert} cf_a.cf_row {with} cf_b.cf_row {converted} cf_x
      where cf_a.cf_here offset 0) cf_c on true
    left join lateral (
      select cf_x.*, true as cf_is
      from {convert_back} cf_b.cf_row {with_back} cf_a.cf_row {converted_back} cf_x
      where cf_b.cf_here offset 0) cf_d on true
    where case when cf_b.cf_here is null then cf_c.cf_is when cf_a.cf_here is null then cf_d.cf_is
      when cf_c.cf_is is distinct from cf_d.cf_is then true when cf_c.cf_is is null then false
      else {rows_differ} end
    order by 1$sql$,
    pieces || jsonb_build_object(
      'range_a', crossfade_private.render(range_a, pieces),
      'range_b', crossfade_private.render(range_b, pieces)));
$outer$;

comment on function crossfade_private.compare_sql is
  'The query that compares the rows of two ranges, templates over the rows cf_t: one row per differing key, its kind and the columns. pieces with V1 as the source.';

create or replace function crossfade_private.find_mismatches(
  pieces jsonb, range_a text, range_b text, lower_key jsonb, upper_key jsonb,
  keys jsonb[] default null
)
returns table (key jsonb, kind text, columns text[])
language plpgsql stable
set search_path = pg_catalog, pg_temp
-- By these converters are printed, and values compared; a session may have others.
set timezone = 'UTC'
set datestyle = 'ISO, MDY'
set intervalstyle = 'postgres'
set extra_float_digits = 1
set bytea_output = 'hex'
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
begin
  return query execute crossfade_private.compare_sql(pieces, range_a, range_b)
  using lower_key, upper_key, keys;
end $$;

comment on function crossfade_private.find_mismatches is
  'Differing keys of a range, in one snapshot: both writes of a transaction are seen or neither. pieces with V1 as the source.';

create or replace function crossfade_private.find_in_range(
  pieces jsonb, after_key jsonb, boundary jsonb
)
returns table (key jsonb, kind text, columns text[])
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select f.key, f.kind, f.columns
  from crossfade_private.find_mismatches(
    pieces,
    '($1 is null or ({skey_t}) > ({skey_1})) and ($2 is null or ({skey_t}) <= ({skey_2}))',
    '($1 is null or ({tkey_t}) > ({skey_1})) and ($2 is null or ({tkey_t}) <= ({skey_2}))',
    after_key, boundary) f;
$$;

comment on function crossfade_private.find_in_range is
  'Differing keys in (after_key, boundary]; null is open.';

create or replace function crossfade_private.find_among(pieces jsonb, keys jsonb[])
returns table (key jsonb, kind text, columns text[])
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select f.key, f.kind, f.columns
  from crossfade_private.find_mismatches(
    pieces, '({skey_t}) in (select {skey_z} from unnest($3) cf_z(key))',
    '({tkey_t}) in (select {skey_z} from unnest($3) cf_z(key))', null, null, keys) f;
$$;

comment on function crossfade_private.find_among is 'Those of the keys whose rows differ.';

-- runs/mismatches.sql -----------------------------------------------------------------------------

-- A difference counts when it is still there under lock.

create or replace function crossfade_private.record_found(
  for_pair text, for_run bigint, pieces jsonb, keys jsonb[]
)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_count bigint;
begin
  -- A second look under lock, so that nothing in flight is ever counted. Of rows that somebody is
  -- writing right now, what a plain read finds is good enough.
  perform crossfade_private.lock_keys(pieces, keys);
  insert into crossfade.mismatches as m (pair, run, key, kind, columns)
  select for_pair, for_run, f.key, f.kind, f.columns
  from crossfade_private.find_among(pieces, keys) f
  -- A copy whose source was deleted while a backfill runs is the sweep's to remove, not news.
  where not exists (
    select from crossfade_private.tombstones z
    where z.pair = for_pair and z.key = f.key and f.kind = format('missing_v%s', z.side))
  order by f.key
  on conflict (pair, key) where resolved_at is null do update
  set run = excluded.run, kind = excluded.kind, columns = excluded.columns, message = null,
    found_at = clock_timestamp();
  get diagnostics v_count = row_count;
  return v_count;
end $$;

comment on function crossfade_private.record_found is
  'Look again at rows that differ, with both rows locked as far as they are free, and record what still does. Returns how many.';

create or replace function crossfade_private.record_incomparable(
  for_pair text, for_run bigint, key jsonb, message text
)
returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  insert into crossfade.mismatches as m (pair, run, key, kind, message)
  values (for_pair, for_run, record_incomparable.key, 'different',
    left(record_incomparable.message, 500))
  on conflict (pair, key) where resolved_at is null do update
  set run = excluded.run, kind = excluded.kind, columns = excluded.columns,
    message = excluded.message, found_at = clock_timestamp();
$$;

comment on function crossfade_private.record_incomparable is
  'Record that the rows of a key cannot be compared: nobody knows whether they are equal.';

create or replace function crossfade_private.record_mismatches_of(
  for_pair text, for_run bigint, pieces jsonb, keys jsonb[]
)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_size constant integer := cardinality(keys);
  v_step constant integer := greatest(1, v_size / 16);
  v_count bigint := 0;
begin
  begin
    return crossfade_private.record_found(for_pair, for_run, pieces, keys);
  exception when others or assert_failure then
    if crossfade_private.is_transient(sqlstate) then
      raise;
    elsif v_size = 1 then
      perform crossfade_private.record_incomparable(for_pair, for_run, keys[1],
        format('%s: %s', sqlstate, sqlerrm));
      return 1;
    end if;
  end;
  for v_at in 1..v_size by v_step loop
    v_count := v_count + crossfade_private.record_mismatches_of(
      for_pair, for_run, pieces, keys[v_at : v_at + v_step - 1]);
  end loop;
  return v_count;
end $$;

comment on function crossfade_private.record_mismatches_of is
  'Compare the rows of these keys and record what differs: all at once, then in sixteenths, then one by one. Rows that cannot be compared count as different.';

create or replace function crossfade_private.record_mismatches(
  for_pair text, for_run bigint, pieces jsonb, after_key jsonb, boundary jsonb
)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_keys jsonb[];
begin
  begin
    v_keys := array(
      select f.key from crossfade_private.find_in_range(pieces, after_key, boundary) f);
    if cardinality(v_keys) = 0 then
      return 0;
    end if;
    return crossfade_private.record_found(for_pair, for_run, pieces, v_keys);
  exception when others or assert_failure then
    if crossfade_private.is_transient(sqlstate) then
      raise;
    end if;
  end;
  v_keys := crossfade_private.range_keys(pieces, after_key, boundary, true);
  return case when cardinality(v_keys) = 0 then 0
    else crossfade_private.record_mismatches_of(for_pair, for_run, pieces, v_keys) end;
end $$;

comment on function crossfade_private.record_mismatches is
  'Compare a range, look again at what differs with both rows locked, and record what still does, but for copies that wait for the sweep of a backfill. A row that raises is recorded too and holds up no other. Returns how many.';

-- runs/slices.sql ---------------------------------------------------------------------------------

-- The work of one batch: parts of a range, each twice as large as the last, until its time is used.
-- A part that runs into a timeout is undone, what came before it stays, the next batch is smaller.

create or replace function crossfade_private.do_slice(
  run crossfade.runs, pieces jsonb, after_key jsonb, boundary jsonb
)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  return case (run).kind
    when 'backfill' then crossfade_private.copy_batch(pieces, after_key, boundary)
    else crossfade_private.record_mismatches((run).pair, (run).id, pieces, after_key, boundary) end;
end $$;

comment on function crossfade_private.do_slice is
  'Copy or compare the rows in (after_key, boundary]; returns rows written, or rows that differ.';

create or replace function crossfade_private.pass_row(
  run crossfade.runs, pieces jsonb, row_key jsonb, error_code text
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_message constant text := 'the row alone runs into a timeout, twice';
begin
  if (run).kind = 'backfill' then
    insert into crossfade.mirror_failures (pair, written_side, key, operation, error_code, message)
    values ((run).pair, (pieces ->> 'side')::smallint, row_key, 'BACKFILL', error_code,
      v_message)
    on conflict (pair, key) where resolved_at is null do nothing;
  else
    perform crossfade_private.record_incomparable((run).pair, (run).id, row_key,
      format('%s: %s', error_code, v_message));
  end if;
end $$;

comment on function crossfade_private.pass_row is
  'Record a row that no batch can do, so that the run can go on behind it.';

create or replace function crossfade_private.shrink(
  run crossfade.runs, pieces jsonb, run_range crossfade.run_ranges, error_code text
)
returns crossfade.run_ranges
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_range crossfade.run_ranges := run_range;
begin
  -- A lock that somebody holds says nothing about the row: that is waited for.
  if v_range.batch_rows = 1 and v_range.timeouts > 0 and error_code <> '55P03' then
    v_range.cursor_key := crossfade_private.batch_boundary(
      pieces, v_range, (run).kind = 'verify');
    if v_range.cursor_key is not null then
      perform crossfade_private.pass_row(run, pieces, v_range.cursor_key, error_code);
    end if;
    v_range.done := v_range.cursor_key is not distinct from v_range.upto_key;
    v_range.timeouts := 0;
    return v_range;
  end if;
  v_range.batch_rows := greatest(1, v_range.batch_rows / 2);
  v_range.timeouts := v_range.timeouts + 1;
  return v_range;
end $$;

comment on function crossfade_private.shrink is
  'The range after a batch that ran into a timeout: half the rows next time; a single row that did so twice is recorded and passed.';

create or replace function crossfade_private.do_slices(
  run crossfade.runs, pieces jsonb, run_range crossfade.run_ranges, target_ms integer,
  started_at timestamptz
)
returns table (
  new_range crossfade.run_ranges, rows_read bigint, rows_found bigint, fixed_ms numeric,
  error_code text
)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_most bigint := crossfade_private.setting_number('batch_max_rows');
  v_both constant boolean := (run).kind = 'verify';
  v_boundary jsonb;
  v_slice_at timestamptz;
  v_found bigint;
  v_rows bigint;
  v_left_ms double precision;
begin
  new_range := run_range;
  new_range.batch_rows := least(new_range.batch_rows, v_most);
  rows_read := 0;
  rows_found := 0;
  loop
    v_slice_at := clock_timestamp();
    begin
      v_boundary := crossfade_private.batch_boundary(pieces, new_range, v_both);
      -- The end of a batch takes about as long as its beginning, and planning to compare as both.
      fixed_ms := coalesce(fixed_ms, case when v_both then 4000 else 2000 end
        * extract(epoch from clock_timestamp() - started_at));
      v_found := crossfade_private.do_slice(run, pieces, new_range.cursor_key, v_boundary);
      v_rows := crossfade_private.range_rows(pieces, new_range, v_boundary, v_both);
    exception when query_canceled or lock_not_available or out_of_memory then
      -- A person who cancels gets what was done before, too: nothing tells that from the timeout
      -- of a client or a proxy.
      error_code := sqlstate;
    end;
    if error_code is not null then
      v_boundary := new_range.cursor_key;
      new_range := crossfade_private.shrink(run, pieces, new_range, error_code);
      if new_range.cursor_key is distinct from v_boundary then
        rows_read := rows_read + 1;
        rows_found := rows_found + v_both::integer; -- not compared is not equal
      end if;
      exit;
    end if;
    new_range.cursor_key := v_boundary;
    new_range.done := v_boundary is not distinct from new_range.upto_key;
    new_range.timeouts := 0;
    rows_read := rows_read + v_rows;
    rows_found := rows_found + v_found;
    v_left_ms := target_ms - extract(epoch from clock_timestamp() - started_at) * 1000;
    -- Not for a small rest: a part has costs of its own. And no more than one part at the beginning
    -- and after a timeout.
    exit when new_range.done or v_left_ms < target_ms / 4.0 or rows_read >= v_most or v_rows = 0
      or (run_range).batches = 0 or (run_range).timeouts > 0;
    new_range.batch_rows := greatest(1, least(v_most - rows_read, v_rows * 2, v_left_ms * v_rows
      / greatest(0.001, extract(epoch from clock_timestamp() - v_slice_at) * 1000)));
  end loop;
  return next;
end $$;

comment on function crossfade_private.do_slices is
  'Do parts of a range until target_ms after started_at, at most batch_max_rows rows. error_code: the part that ended in statement_timeout (57014), a lock (55P03) or memory (53200) is undone. new_range is the range to be kept.';

create or replace function crossfade_private.shrunk_reason(
  pieces jsonb, before crossfade.run_ranges, after crossfade.run_ranges, error_code text
)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_why constant jsonb := case error_code
    when '55P03' then crossfade_private.locked_reason('a row stays locked',
      array[pieces ->> 'source', pieces ->> 'target']::regclass[])
    when '57014'
      then '{"reason": "the batch was cancelled or ran into statement_timeout"}'::jsonb
    else '{"reason": "the batch ran out of memory"}' end;
begin
  return v_why || jsonb_build_object('reason', concat_ws('; ', v_why ->> 'reason', case
    when (after).timeouts = 0 then 'its only row is recorded and passed'
    when (after).batch_rows < (before).batch_rows
      then format('the next has %s rows', (after).batch_rows) end));
end $$;

comment on function crossfade_private.shrunk_reason is
  'Why a batch did not get through, and what comes next: {"reason", "blocking"}.';

create or replace function crossfade_private.run_batch(
  run crossfade.runs, pair crossfade.pairs, pieces jsonb, wanted_ms integer
)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_started constant timestamptz := clock_timestamp();
  v_throttle constant jsonb := crossfade_private.throttle(run);
  v_range crossfade.run_ranges;
  v_done record;
  v_target_ms integer;
  v_ms numeric;
begin
  if v_throttle ? 'reason' then
    return v_throttle || '{"state": "throttled"}'::jsonb;
  end if;
  v_range := crossfade_private.check_unchanged(run, pair, crossfade_private.claim_range(run));
  if v_range.run is null then
    return '{}'::jsonb;
  end if;
  v_range := crossfade_private.look_at_load(v_range);
  v_target_ms := crossfade_private.target_ms(v_range, wanted_ms);
  select * into v_done
  from crossfade_private.do_slices(run, pieces, v_range, v_target_ms, v_started) s;
  v_ms := round((extract(epoch from clock_timestamp() - v_started) * 1000)::numeric, 1);
  perform crossfade_private.finish_batch(v_done.new_range, v_done.rows_read,
    case (run).kind when 'backfill' then v_done.rows_found else 0 end,
    case (run).kind when 'verify' then v_done.rows_found else 0 end, v_ms, v_done.fixed_ms,
    v_target_ms);
  return jsonb_build_object(
    'rows_read', v_done.rows_read, 'batch_ms', v_ms,
    case (run).kind when 'backfill' then 'rows_written' else 'mismatches' end, v_done.rows_found,
    'wait_ms', crossfade_private.wait_ms(v_range, v_ms, (v_throttle ->> 'ease')::numeric))
    || case when v_done.error_code is null then '{}'
      else crossfade_private.shrunk_reason(
        pieces, v_range, v_done.new_range, v_done.error_code)
        || jsonb_build_object('state', case when v_done.error_code = '55P03'
          and (v_done.new_range).batch_rows = (v_range).batch_rows then 'waiting' else 'shrunk' end)
      end;
end $$;

comment on function crossfade_private.run_batch is
  'One batch of a run of any kind: what its answer has beside the run. "state" and "reason" only when it did not get through: throttled, shrunk (the next is smaller), waiting (for a lock).';

-- runs/parents.sql --------------------------------------------------------------------------------

-- Rows of a pair may refer to rows of another: that one is copied first.

create or replace function crossfade_private.pair_parents(pair crossfade.pairs, side integer)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select k.parent from crossfade_private.foreign_keys_between_pairs() k
  join crossfade_private.pair_ancestors() a on a.pair = k.child and a.ancestor = k.parent
  where k.child = (pair_parents.pair).name and k.side = pair_parents.side
  order by k.parent;
$$;

comment on function crossfade_private.pair_parents is
  'Names of the pairs whose table of one side that of this pair refers to; without those that refer back.';

create or replace function crossfade_private.uncopied_parents(
  pair crossfade.pairs, direction text
)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select p.name
  from crossfade_private.pair_parents(
    pair, case direction when 'v1_to_v2' then 2 else 1 end) n(name)
  join crossfade.pairs p on p.name = n.name
  where case direction when 'v1_to_v2' then p.last_backfill_at is null
    else p.needs_reverse_backfill end
  order by p.name;
$$;

comment on function crossfade_private.uncopied_parents is
  'The pairs that have to be backfilled in this direction before this one: its rows refer to theirs.';

create or replace function crossfade_private.require_parents(pair crossfade.pairs, direction text)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_parents constant text[] := array(
    select crossfade_private.uncopied_parents(pair, direction));
begin
  if v_parents <> '{}' then
    perform crossfade_private.fail(409, 'CF005',
      format('Cannot backfill "%s": its rows refer to rows of "%s", which are not copied yet',
        (pair).name, array_to_string(v_parents, '", "')),
      jsonb_build_object('pair', (pair).name, 'parents', to_jsonb(v_parents)),
      format('First: crossfade backfill run %s%s', v_parents[1],
        case direction when 'v2_to_v1' then ' --direction v2_to_v1' else '' end));
  end if;
end $$;

comment on function crossfade_private.require_parents is
  'CF005 with the pairs that have to be backfilled first, one command as the hint.';

-- runs/backfill.sql -------------------------------------------------------------------------------

-- Backfill: copy the rows that were there before mirroring began.

create or replace function crossfade.start_backfill(
  pair text, direction text default 'v1_to_v2', ranges integer default 1
)
returns jsonb
language plpgsql volatile
security definer -- reads and analyzes the owner's tables; only service_role may call it
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' -- keys are kept as text
set datestyle = 'ISO, MDY'
set intervalstyle = 'postgres'
set extra_float_digits = 1
set bytea_output = 'hex'
as $$
declare
  v_pair crossfade.pairs := crossfade_private.get_pair(pair);
  v_run bigint;
  v_mirror text;
begin
  if direction not in ('v1_to_v2', 'v2_to_v1') or ranges not between 1 and 64 then
    perform crossfade_private.fail(400, 'CF012',
      format('Invalid direction "%s" or ranges %s', direction, ranges),
      jsonb_build_object('direction', direction, 'ranges', ranges),
        'direction is v1_to_v2 or v2_to_v1, ranges 1 to 64.');
  end if;
  -- Read again: its stage may have changed while we waited.
  select p.* into v_pair from crossfade.pairs p where p.name = start_backfill.pair
  for no key update;
  select r.id into v_run from crossfade.runs r
  where r.pair = start_backfill.pair and r.kind = 'backfill' and r.state in ('running', 'paused');
  if found then
    return jsonb_build_object('run', crossfade_private.run_json(v_run), 'already', true);
  end if;
  if v_pair.stage = 'complete' and direction = 'v1_to_v2' then
    perform crossfade_private.fail(409, 'CF005',
      format(
        'Cannot backfill "%s" from version 1: it is an archive (stage complete), and rows that version 2 has deleted since would come back',
        pair),
      jsonb_build_object('pair', pair, 'stage', v_pair.stage, 'direction', direction),
        'crossfade backfill run PAIR --direction v2_to_v1 brings version 1 up to date.');
  end if;
  select m.mirror into v_mirror from crossfade_private.mirror_state m
  where m.pair = start_backfill.pair;
  if v_pair.stage = 'off' or v_mirror = 'log_only' then
    perform crossfade_private.fail(409, 'CF005',
      format('Cannot backfill "%s": its writes are not mirrored (stage %s)', pair, v_pair.stage),
      jsonb_build_object('pair', pair, 'stage', v_pair.stage),
        'crossfade stage set PAIR dualwrite, then backfill.');
  end if;
  perform crossfade_private.require_parents(v_pair, direction);
  if v_mirror = 'waiting' then
    perform crossfade_private.require_parents(v_pair, 'v1_to_v2');
  end if;
  update crossfade_private.mirror_state m
  set tombstones = true, mirror = case m.mirror when 'archived' then 'reverse' when 'waiting'
    then 'both' else m.mirror end
  where m.pair = start_backfill.pair;
  delete from crossfade_private.tombstones z where z.pair = start_backfill.pair;
  if v_mirror in ('archived', 'waiting') then
    -- Mirroring begins here: on the way back from complete, of V2 while V1 still refuses writes; in
    -- dualwrite, of a pair that had to wait for the pairs its rows refer to.
    update crossfade.pairs p set stage_xid = null where p.name = start_backfill.pair;
  end if;
  v_run := crossfade_private.start_run('backfill', v_pair, direction, ranges);
  perform crossfade_private.audit('backfill.start', pair, null, null,
    crossfade_private.run_json(v_run));
  return jsonb_build_object('run', crossfade_private.run_json(v_run), 'already', false);
end $$;

comment on function crossfade.start_backfill is
  'Start copying the rows of one table to the other, or return the active run (already: true). ranges: key ranges that workers can take side by side. CF001, CF005 when it is not mirrored or refers to rows of a pair that has to be copied first, CF012.';

create or replace function crossfade.backfill_batch(run bigint, target_ms integer default null)
returns jsonb
language plpgsql volatile
security definer -- copies rows of the owner's tables; only service_role may call it
set search_path = pg_catalog, pg_temp
-- As the mirror converts, whatever the session has set.
set timezone = 'UTC'
set datestyle = 'ISO, MDY'
set intervalstyle = 'postgres'
set extra_float_digits = 1
set bytea_output = 'hex'
as $$
declare
  v_run crossfade.runs := crossfade_private.get_run(run);
  v_pair crossfade.pairs := crossfade_private.get_pair(v_run.pair);
  v_pieces jsonb := crossfade_private.run_pieces(v_pair, v_run.direction);
  v_reason text;
  v_wait jsonb;
  v_done jsonb;
begin
  if v_run.kind <> 'backfill' then
    perform crossfade_private.fail(409, 'CF010',
      format('Run %s is a %s, not a backfill', run, v_run.kind),
      jsonb_build_object('run', run, 'kind', v_run.kind), 'Use crossfade verify run.');
  end if;
  if v_run.state <> 'running' then
    return crossfade_private.batch_json(run, v_run.state,
      jsonb_build_object('reason', v_run.reason));
  end if;
  v_reason := crossfade_private.release_reason(v_pair);
  if v_reason is not null then
    return crossfade_private.batch_json(run, 'waiting', jsonb_build_object('reason', v_reason));
  end if;
  v_wait := crossfade_private.older_writers(v_run);
  if v_wait is not null then
    return crossfade_private.batch_json(run, 'waiting', v_wait);
  end if;
  perform crossfade_private.bound_run(v_run, v_pieces);
  perform crossfade_private.begin_engine_write(v_pair.name);
  v_done := crossfade_private.run_batch(v_run, v_pair, v_pieces, target_ms);
  begin
    perform crossfade_private.finish_backfill(v_run, v_pair, v_pieces);
  exception when lock_not_available then
    -- The rows are copied; the next call ends the run.
    v_done := v_done || '{"state": "waiting"}' || crossfade_private.locked_reason(
      'all rows are copied, and the end of the run is locked',
      array[v_pair.v1_table, v_pair.v2_table, 'crossfade_private.mirror_state',
        'crossfade.pairs']::regclass[]);
  end;
  perform crossfade_private.end_engine_write(v_pair.name);
  return crossfade_private.batch_json(run, null, null) || v_done;
end $$;

comment on function crossfade.backfill_batch is
  'Copy the next batch of a run in this transaction, of about target_ms (null: settings batch_target_ms, or batch_idle_target_ms while nobody else uses the database): {"run", "rows_read", "rows_written", "batch_ms", "wait_ms": time to wait before the next call, "state", "reason", "blocking": sessions waited for}. state is running, waiting (older transactions, a lock), throttled, shrunk (a timeout: what was done before it is kept, the next batch is smaller), paused, finished or cancelled. Call it until it is finished; several workers may. A row that the other table refuses, whatever it raises, becomes an open mirror failure (operation BACKFILL). Locks the batch''s source rows FOR SHARE, waits at most 0.5 s for one. CF009, CF010, CF011.';

-- runs/verification.sql ---------------------------------------------------------------------------

-- Verify runs.

create or replace function crossfade.start_verify(pair text, ranges integer default 1)
returns jsonb
language plpgsql volatile
security definer -- reads and analyzes the owner's tables; only service_role may call it
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' -- keys are kept as text
set datestyle = 'ISO, MDY'
set intervalstyle = 'postgres'
set extra_float_digits = 1
set bytea_output = 'hex'
as $$
declare
  v_pair crossfade.pairs := crossfade_private.get_pair(pair);
  v_run bigint;
begin
  if ranges not between 1 and 64 then
    perform crossfade_private.fail(400, 'CF012', format('Invalid ranges %s', ranges),
      jsonb_build_object('ranges', ranges), 'Use 1 to 64.');
  end if;
  perform from crossfade.pairs p where p.name = start_verify.pair for no key update;
  select r.id into v_run from crossfade.runs r
  where r.pair = start_verify.pair and r.kind = 'verify' and r.state in ('running', 'paused');
  if found then
    return jsonb_build_object('run', crossfade_private.run_json(v_run), 'already', true);
  end if;
  v_run := crossfade_private.start_run('verify', v_pair, 'v1_to_v2', ranges);
  return jsonb_build_object('run', crossfade_private.run_json(v_run), 'already', false);
end $$;

comment on function crossfade.start_verify is
  'Start a full comparison of both tables, or return the active one (already: true). CF001, CF011, CF012.';

create or replace function crossfade_private.finish_verify(run crossfade.runs, pair crossfade.pairs)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_mismatches bigint;
begin
  if exists (select from crossfade.run_ranges a where a.run = (finish_verify.run).id
    and not a.done) then
    return;
  end if;
  -- The pair before the run, as everywhere.
  perform from crossfade.pairs p where p.name = (pair).name for no key update;
  perform from crossfade.runs r where r.id = (finish_verify.run).id
    and r.state = 'running' for update;
  if not found then
    return;
  end if;
  update crossfade.runs r set state = 'finished', finished_at = clock_timestamp()
  where r.id = (finish_verify.run).id;
  select sum(a.mismatches) into v_mismatches from crossfade.run_ranges a
    where a.run = (finish_verify.run).id;
  if v_mismatches = 0 then
    -- A clean full pass also settles what earlier passes found and something else has mended.
    update crossfade.mismatches m set resolved_at = clock_timestamp(), resolution = 'equal'
    where m.pair = (finish_verify.pair).name and m.resolved_at is null
      and m.found_at < (finish_verify.run).started_at;
    update crossfade.pairs p
    set last_clean_verify_at = (finish_verify.run).started_at,
      verified_converter_hash = (finish_verify.run).converter_hash
    where p.name = (finish_verify.pair).name;
    update crossfade_private.mirror_state m set unproven = false
    from crossfade.pairs p
    where p.name = (finish_verify.pair).name and m.pair = p.name and m.unproven
      and p.last_backfill_at < (finish_verify.run).started_at;
    perform crossfade_private.open_or_close((pair).name);
  end if;
  perform crossfade_private.audit('verify.finish', (pair).name, null, null,
    crossfade_private.run_json((finish_verify.run).id));
end $$;

comment on function crossfade_private.finish_verify is
  'When no range is left: end the run; without a mismatch the pair counts as clean since the run began.';

create or replace function crossfade.verify_batch(run bigint, target_ms integer default null)
returns jsonb
language plpgsql volatile
security definer -- reads the owner's tables; only service_role may call it
set search_path = pg_catalog, pg_temp
-- As the mirror converts, whatever the session has set.
set timezone = 'UTC'
set datestyle = 'ISO, MDY'
set intervalstyle = 'postgres'
set extra_float_digits = 1
set bytea_output = 'hex'
as $$
declare
  v_run crossfade.runs := crossfade_private.get_run(run);
  v_pair crossfade.pairs := crossfade_private.get_pair(v_run.pair);
  v_reason text;
  v_done jsonb;
begin
  if v_run.kind <> 'verify' then
    perform crossfade_private.fail(409, 'CF010',
      format('Run %s is a %s, not a verify pass', run, v_run.kind),
      jsonb_build_object('run', run, 'kind', v_run.kind), 'Use crossfade backfill run.');
  end if;
  if v_run.state <> 'running' then
    return crossfade_private.batch_json(run, v_run.state,
      jsonb_build_object('reason', v_run.reason));
  end if;
  v_reason := crossfade_private.release_reason(v_pair);
  if v_reason is not null then
    return crossfade_private.batch_json(run, 'waiting', jsonb_build_object('reason', v_reason));
  end if;
  v_done := crossfade_private.run_batch(
    v_run, v_pair, crossfade_private.run_pieces(v_pair, 'v1_to_v2'), target_ms);
  perform crossfade_private.finish_verify(v_run, v_pair);
  return crossfade_private.batch_json(run, null, null) || v_done;
end $$;

comment on function crossfade.verify_batch is
  'Compare the next batch of a verify run, of about target_ms (null: settings batch_target_ms, or batch_idle_target_ms while nobody else uses the database): {"run", "rows_read", "mismatches", "batch_ms", "wait_ms", "state", "reason", "blocking"} as backfill_batch answers. A row that raises counts as different and is recorded with the error. Locks only rows that differ, for the second look, and waits for none. CF009, CF010, CF011.';

-- runs/repair_turns.sql ---------------------------------------------------------------------------

-- Whose turn it is to be repaired, and which side is right.

create or replace function crossfade_private.leader(stage text)
returns integer
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select case when stage in ('rampdown', 'complete', 'retired') then 2 else 1 end;
$$;

comment on function crossfade_private.leader is
  'The table that wins a repair when no record says which side was written: V1 up to live, V2 from rampdown on.';

create or replace function crossfade_private.repair_turns(
  pair crossfade.pairs, max_rows integer, with_undecided boolean
)
returns table (key jsonb, side integer, has_failure boolean, is_slow boolean, why text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with failed as (
    select f.key, f.written_side::integer as side, true as has_failure, f.is_slow,
      f.last_attempt_at, f.id,
      format('%s on V%s was not mirrored: %s %s', f.operation, f.written_side, f.error_code,
        f.message) as why
    from crossfade.mirror_failures f
    where f.pair = (repair_turns.pair).name and f.resolved_at is null
    order by f.last_attempt_at nulls first, f.id limit max_rows
  ),
  differing as (
    select m.key, crossfade_private.leader((repair_turns.pair).stage) as side, false,
      m.is_slow, m.last_attempt_at, m.id, format('V%s leads in stage %s',
        crossfade_private.leader((repair_turns.pair).stage), (repair_turns.pair).stage)
    from crossfade.mismatches m
    where m.pair = (repair_turns.pair).name and m.resolved_at is null
      and (with_undecided or m.kind <> format('missing_v%s',
        crossfade_private.leader((repair_turns.pair).stage)))
      and not exists (
        select from crossfade.mirror_failures f
        where f.pair = m.pair and f.key = m.key and f.resolved_at is null)
    order by m.last_attempt_at nulls first, m.id limit max_rows
  )
  select t.key, t.side, t.has_failure, t.is_slow, t.why
  from (select * from failed union all select * from differing) t
  order by t.last_attempt_at nulls first, t.has_failure desc, t.id limit max_rows;
$$;

comment on function crossfade_private.repair_turns is
  'The next keys to repair, those never tried first and then those whose last try is longest ago; side is the right one, by an open failure (has_failure) or else the leader. with_undecided: also those that only the follower has.';

create or replace function crossfade_private.repair_counts(pair crossfade.pairs)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object('remaining', f.number + m.number, 'undecided', m.undecided)
  from (
    select count(*) as number from crossfade.mirror_failures f
    where f.pair = (repair_counts.pair).name and f.resolved_at is null
  ) f
  cross join (
    select count(*) as number, count(*) filter (where m.kind = format('missing_v%s',
      crossfade_private.leader((repair_counts.pair).stage))) as undecided
    from crossfade.mismatches m
    where m.pair = (repair_counts.pair).name and m.resolved_at is null and not exists (
      select from crossfade.mirror_failures f
      where f.pair = m.pair and f.key = m.key and f.resolved_at is null)
  ) m;
$$;

comment on function crossfade_private.repair_counts is
  '{"remaining": keys with an open failure or mismatch, "undecided": those of them that only the follower has, and that no failure explains}.';

create or replace function crossfade_private.mark_tried(
  pair text, errors jsonb, is_slow boolean default false
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_keys constant jsonb[] := array(select e.key::jsonb from jsonb_each(errors) e);
begin
  -- SKIP LOCKED: a writer that records a failure anew holds it.
  update crossfade.mirror_failures f
  set attempts = f.attempts + 1, message = left(errors ->> f.key::text, 500),
    last_attempt_at = clock_timestamp(), is_slow = mark_tried.is_slow
  where f.id in (
    select l.id from crossfade.mirror_failures l
    where l.pair = mark_tried.pair and l.key = any (v_keys) and l.resolved_at is null
    for update skip locked);
  update crossfade.mismatches m
  set message = left(errors ->> m.key::text, 500),
    last_attempt_at = clock_timestamp(), is_slow = mark_tried.is_slow
  where m.id in (
    select l.id from crossfade.mismatches l
    where l.pair = mark_tried.pair and l.key = any (v_keys) and l.resolved_at is null
    for update skip locked);
end $$;

comment on function crossfade_private.mark_tried is
  'Note that a repair has failed: errors by the text of the key. Others come first now; after a timeout (is_slow) each is tried alone.';

create or replace function crossfade_private.same_error(keys jsonb[], message text)
returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_object_agg(k::text, message), '{}') from unnest(keys) k;
$$;

comment on function crossfade_private.same_error is
  'One message for several keys, as mark_tried wants it.';

-- runs/repair_rows.sql ----------------------------------------------------------------------------

-- Repair of a set of rows: make one table what the other says; the audit keeps what is replaced.

create or replace function crossfade_private.look_at_keys(pieces jsonb, keys jsonb[])
returns table (key jsonb, action text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
begin
  return query execute crossfade_private.render($sql$
    select cf_z.key, case
      when cf_a.cf_here is null then case when exists (
        select from {convert_back} cf_b.cf_row {with_back} null::{source} {converted_back} cf_e
        where cf_b.cf_here) then 'gone' end
      when not exists (
        select from {convert} cf_a.cf_row {with} cf_b.cf_row {converted} cf_e)
        then case when cf_b.cf_here then 'delete' end
      when cf_b.cf_here is null then 'insert'
      when {rows_differ} then 'update' end
    from unnest($1) cf_z(key)
    left join lateral (select cf_t as cf_row, true as cf_here from {source} cf_t
      where ({skey_t}) = ({skey_z})) cf_a on true
    left join lateral (select cf_t as cf_row, true as cf_here from {target} cf_t
      where ({tkey_t}) = ({skey_z})) cf_b on true
    left join lateral (
      select cf_e.* from {convert} cf_a.cf_row {with} cf_b.cf_row {converted} cf_e
      where cf_a.cf_here and cf_b.cf_here offset 0) cf_c on true
    left join lateral (
      select cf_e.*
      from {convert_back} cf_b.cf_row {with_back} cf_a.cf_row {converted_back} cf_e
      where cf_a.cf_here and cf_b.cf_here offset 0) cf_d on true
  $sql$, pieces) using keys;
end $$;

comment on function crossfade_private.look_at_keys is
  'What makes the target agree with the source, by key: insert, update, delete (the converter gives no row), gone (only the target has a row, which it ought to have from the source), or null when both agree.';

create or replace function crossfade_private.judge_keys(pieces jsonb, keys jsonb[])
returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_size constant integer := cardinality(keys);
  v_step constant integer := greatest(1, v_size / 16);
  v_plan jsonb := '{}'::jsonb;
begin
  begin
    return (
      select coalesce(jsonb_object_agg(
        l.key::text, jsonb_build_object('action', l.action)), '{}')
      from crossfade_private.look_at_keys(pieces, keys) l);
  exception when others or assert_failure then
    if v_size = 1 then
      return jsonb_build_object(keys[1]::text, jsonb_build_object(
        'action', 'update', 'error', format('%s: %s', sqlstate, sqlerrm)));
    end if;
  end;
  for v_at in 1..v_size by v_step loop
    v_plan := v_plan || crossfade_private.judge_keys(pieces, keys[v_at : v_at + v_step - 1]);
  end loop;
  return v_plan;
end $$;

comment on function crossfade_private.judge_keys is
  'What look_at_keys says, by the text of the key: {"action", "error"?: why the rows cannot be compared}.';

create or replace function crossfade_private.target_rows(pieces jsonb, keys jsonb[])
returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_rows jsonb;
begin
  execute crossfade_private.render($sql$
    select jsonb_object_agg(cf_z.key::text, crossfade_private.json_value(to_json(cf_t)))
    from unnest($1) cf_z(key) join {target} cf_t on ({tkey_t}) = ({skey_z})
  $sql$, pieces) into v_rows using keys;
  return coalesce(v_rows, '{}');
end $$;

comment on function crossfade_private.target_rows is
  'The target''s rows by the text of their key.';

create or replace function crossfade_private.put_sql(action text)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $outer$
  select case action
    when 'delete' then $sql$
      delete from {target} cf_t using unnest($3) cf_z(key) where ({tkey_t}) = ({skey_z})$sql$
    when 'update' then $sql$
      update {target} cf_t set {set_list}
      from unnest($3) cf_z(key)
      join {source} cf_n on ({skey_n}) = ({skey_z})
      join {target} cf_o on ({tkey_o}) = ({skey_z})
      cross join lateral {convert} cf_n {with} cf_o {converted} cf_c
      where ({tkey_t}) = ({tkey_o})$sql$
    when 'insert' then $sql$
      insert into {target} ({target_columns}) overriding system value
      select {tcolumns_c}
      from unnest($3) cf_z(key)
      join {source} cf_n on ({skey_n}) = ({skey_z})
      cross join lateral {convert} cf_n {with} null::{target} {converted} cf_c
      on conflict ({target_key}) do nothing$sql$
    end;
$outer$;

comment on function crossfade_private.put_sql is
  'Template that makes the target''s rows of the keys $3 what the source''s rows say: delete, update or insert.';

create or replace function crossfade_private.put_keys(pieces jsonb, action text, keys jsonb[])
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_size constant integer := cardinality(keys);
  v_step constant integer := greatest(1, v_size / 16);
  v_errors jsonb := '{}'::jsonb;
begin
  if v_size = 0 then
    return v_errors;
  end if;
  begin
    perform crossfade_private.write_rows(
      pieces, crossfade_private.put_sql(action), null, null, keys);
    return v_errors;
  exception when others or assert_failure then
    if v_size = 1 then
      return crossfade_private.same_error(keys, format('%s: %s', sqlstate, sqlerrm));
    end if;
  end;
  for v_at in 1..v_size by v_step loop
    v_errors := v_errors || crossfade_private.put_keys(
      pieces, action, keys[v_at : v_at + v_step - 1]);
  end loop;
  return v_errors;
end $$;

comment on function crossfade_private.put_keys is
  'Write the target''s rows of these keys: all at once, then in sixteenths, then one by one. Returns the errors of those that were refused, by the text of the key. Both rows must be locked.';

create or replace function crossfade_private.settle_repaired(pair text, keys jsonb[])
returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  update crossfade.mirror_failures f
  set resolved_at = clock_timestamp(), resolution = 'repaired'
  where f.pair = settle_repaired.pair and f.key = any (keys) and f.resolved_at is null;
  update crossfade.mismatches m set resolved_at = clock_timestamp(), resolution = 'repaired'
  where m.pair = settle_repaired.pair and m.key = any (keys) and m.resolved_at is null;
$$;

comment on function crossfade_private.settle_repaired is
  'Close the failures and mismatches of keys whose rows agree.';

-- runs/repair_set.sql -----------------------------------------------------------------------------

-- Repair of a set of keys from one side.

create or replace function crossfade_private.unreadable_keys(pieces jsonb, keys jsonb[])
returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_size constant integer := cardinality(keys);
  v_step constant integer := greatest(1, v_size / 16);
  v_errors jsonb := '{}'::jsonb;
begin
  begin
    execute crossfade_private.render(
      'select count(q) from (select {skey_z} from unnest($1) cf_z(key)) q', pieces) using keys;
    return v_errors;
  exception when others then
    if v_size = 1 then
      return crossfade_private.same_error(keys, format('%s: %s', sqlstate, sqlerrm));
    end if;
  end;
  for v_at in 1..v_size by v_step loop
    v_errors := v_errors || crossfade_private.unreadable_keys(
      pieces, keys[v_at : v_at + v_step - 1]);
  end loop;
  return v_errors;
end $$;

comment on function crossfade_private.unreadable_keys is
  'Why some keys are no keys of these tables, by the text of the key: somebody wrote them by hand, or the type of the key was another then.';

create or replace function crossfade_private.workable_keys(
  pair text, pieces jsonb, keys jsonb[], side integer, has_failure boolean
)
returns jsonb[]
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_held constant jsonb[] := crossfade_private.lock_keys(pieces, keys);
  v_failed jsonb[];
begin
  -- Order matters: rows first, as writers do, then the failures, which may have been recorded anew
  -- since the turn was given. Only those that are locked here are settled.
  v_failed := array(
    select f.key from crossfade.mirror_failures f
    where f.pair = workable_keys.pair and f.key = any (keys) and f.resolved_at is null
      and f.written_side = workable_keys.side
    order by f.id for update skip locked);
  if cardinality(v_held) > 0 then
    perform crossfade_private.mark_tried(pair,
      crossfade_private.same_error(v_held, 'another session holds a row of this key'));
  end if;
  return array(
    select k from unnest(keys) k
    where k <> all (v_held) and case when has_failure then k = any (v_failed)
      else not exists (
        select from crossfade.mirror_failures f
        where f.pair = workable_keys.pair and f.key = k and f.resolved_at is null) end);
end $$;

comment on function crossfade_private.workable_keys is
  'Lock both rows and the failure of each key; returns the keys that nobody else holds and of which the same is known as when they were chosen.';

create or replace function crossfade_private.write_plan(
  pair crossfade.pairs, pieces jsonb, plan jsonb, reason text
)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_keys constant jsonb[] := array(select p.key::jsonb from jsonb_each(plan) p);
  v_before constant jsonb := crossfade_private.target_rows(pieces, v_keys);
  v_errors jsonb := '{}'::jsonb;
  v_action text;
  v_after jsonb;
begin
  -- Deletes first: they may free what the others need.
  foreach v_action in array array['delete', 'update', 'insert'] loop
    v_errors := v_errors || crossfade_private.put_keys(pieces, v_action, array(
      select p.key::jsonb from jsonb_each(plan) p where p.value ->> 'action' = v_action));
  end loop;
  v_after := crossfade_private.target_rows(pieces, v_keys);
  perform crossfade_private.audit('repair.row',
    format('%s v%s %s', (pair).name, pieces ->> 'other', k), reason, v_before -> k::text,
    v_after -> k::text)
  from unnest(v_keys) k where not v_errors ? k::text;
  return v_errors || (
    select coalesce(jsonb_object_agg(j.key, coalesce(j.value ->> 'error',
      'the rows still differ after the repair')), '{}')
    from jsonb_each(crossfade_private.judge_keys(
      pieces, array(select k from unnest(v_keys) k where not v_errors ? k::text))) j
    where j.value ->> 'action' is not null);
end $$;

comment on function crossfade_private.write_plan is
  'Do what is planned, {key: {"action"}}; returns the errors by the text of the key. A replaced or deleted row is kept in crossfade.audit.';

create or replace function crossfade_private.repair_keys(
  pair crossfade.pairs, keys jsonb[], side integer, has_failure boolean, gone text, reason text
)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_name constant text := (pair).name;
  v_pieces constant jsonb := crossfade_private.run_pieces(
    pair, case side when 1 then 'v1_to_v2' else 'v2_to_v1' end);
  v_errors jsonb := crossfade_private.unreadable_keys(v_pieces, keys);
  v_keys constant jsonb[] := crossfade_private.workable_keys(v_name, v_pieces,
    array(select k from unnest(keys) k where not v_errors ? k::text), side, has_failure);
  v_plan constant jsonb := crossfade_private.judge_keys(v_pieces, v_keys);
  v_left jsonb[];
  v_settled jsonb[];
begin
  v_left := array(select p.key::jsonb from jsonb_each(v_plan) p
    where p.value ->> 'action' = 'gone' and gone <> 'delete');
  v_errors := v_errors || (
    select coalesce(jsonb_object_agg(p.key, p.value -> 'error'), '{}') from jsonb_each(v_plan) p
    where p.value ? 'error');
  v_errors := v_errors || crossfade_private.write_plan(pair, v_pieces, (
    select coalesce(jsonb_object_agg(p.key, case p.value ->> 'action' when 'gone'
      then '{"action": "delete"}' else p.value end), '{}')
    from jsonb_each(v_plan) p
    where p.value ->> 'action' is not null and p.key::jsonb <> all (v_left)
      and not v_errors ? p.key), reason);
  if v_errors <> '{}' then
    perform crossfade_private.mark_tried(v_name, v_errors);
  end if;
  -- What only the follower has is known as that from now on, and asked for no more.
  update crossfade.mismatches m set kind = format('missing_v%s', side), columns = '{}'
  where m.pair = v_name and m.key = any (v_left) and m.resolved_at is null
    and m.kind <> format('missing_v%s', side);
  v_settled := array(
    select k from unnest(v_keys) k where k <> all (v_left) and not v_errors ? k::text);
  perform crossfade_private.settle_repaired(v_name, v_settled);
  return jsonb_build_object('repaired', cardinality(v_settled),
    'failed', cardinality(keys) - cardinality(v_settled) - cardinality(v_left),
    'left_alone', to_jsonb(v_left));
end $$;

comment on function crossfade_private.repair_keys is
  'Repair keys from side (1 or 2): {"repaired", "failed", "left_alone": keys that only the other side has}. gone says what becomes of those: delete, or anything else to leave them. A row that cannot be repaired stays open, with the error, and keeps no other from being repaired.';

-- runs/repair_moves.sql ---------------------------------------------------------------------------

-- Repair of counterparts that could not follow a changed key.

create or replace function crossfade_private.move_counterpart(
  pair crossfade.pairs, side integer, from_key jsonb, to_key jsonb
)
returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_refused integer[];
  v_pieces constant jsonb := crossfade_private.run_pieces(
    pair, case side when 1 then 'v1_to_v2' else 'v2_to_v1' end);
begin
  execute crossfade_private.render(format($sql$
    select crossfade_private.mirror_%s_v%s_move(
      array[jsonb_populate_record(cf_t, $1)], array[cf_t])
    from {source} cf_t cross join (select $2 as key) cf_z
    where ({skey_t}) = ({skey_z})
      and not exists (
        select from {source} cf_t cross join (select $3 as key) cf_z where ({skey_t}) = ({skey_z}))
      and not exists (
        select from {target} cf_t cross join (select $2 as key) cf_z where ({tkey_t}) = ({skey_z}))
      and exists (
        select from {target} cf_t cross join (select $3 as key) cf_z where ({tkey_t}) = ({skey_z}))
  $sql$, (pair).name, side), v_pieces) into v_refused
  using (
    select jsonb_object_agg(s, from_key -> name)
    from unnest(case side when 1 then (pair).key_columns else (pair).v2_key_columns end,
      (pair).key_columns) u(s, name)
  ), to_key, from_key;
  return v_refused is not null;
end $$;

comment on function crossfade_private.move_counterpart is
  'Give the counterpart under from_key the key to_key, which its row of this side has, by the function of the mirror. False, and nothing is done, where it is not so. What is refused is recorded again.';

create or replace function crossfade_private.move_counterparts(
  pair crossfade.pairs, keys jsonb[]
)
returns jsonb[]
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_failure crossfade.mirror_failures;
  v_known crossfade.mirror_failures[];
  v_moved_side integer;
  v_left jsonb[] := '{}'::jsonb[];
begin
  for v_failure in
    select f.*
    from crossfade.mirror_failures f
    where f.pair = (move_counterparts.pair).name and f.resolved_at is null
      and (f.key = any (keys) or f.moved_to = any (keys)) and f.moved_to is not null
    order by f.id for update skip locked
  loop
    v_known := array(
      select f from crossfade.mirror_failures f
      where f.pair = (move_counterparts.pair).name and f.resolved_at is null
        and f.key in (v_failure.key, v_failure.moved_to));
    update crossfade.mirror_failures f set moved_to = null where f.id = v_failure.id;
    begin
      -- Not the side that was written last: that may be the one that could not follow.
      v_moved_side := case
        when crossfade_private.move_counterpart(pair, 1, v_failure.key, v_failure.moved_to) then 1
        when crossfade_private.move_counterpart(pair, 2, v_failure.key, v_failure.moved_to) then 2
        when v_failure.operation = 'DELETE' then 3 - v_failure.written_side end;
    exception when others or assert_failure then
      update crossfade.mirror_failures f set moved_to = v_failure.moved_to
      where f.id = v_failure.id;
      perform crossfade_private.mark_tried((pair).name, crossfade_private.same_error(
        array[v_failure.key], format('%s: %s', sqlstate, sqlerrm)));
    end;
    if exists (
      select from crossfade.mirror_failures f
      where f.id = v_failure.id and f.resolved_at is null and f.moved_to is not null) then
      -- Who wrote last is not who was refused again.
      update crossfade.mirror_failures f
      set written_side = k.written_side, operation = k.operation, at = k.at
      from unnest(v_known) k where f.id = k.id;
      v_left := v_left || array[v_failure.key, v_failure.moved_to];
    elsif v_failure.written_side <> v_moved_side and not exists (
        select from unnest(v_known) k
        where k.key = v_failure.moved_to and k.at > v_failure.at) then
      -- What was written there since, or deleted, is what the row under the new key has to become.
      perform crossfade_private.record_failure((pair).name, v_failure.written_side,
        v_failure.moved_to, v_failure.operation, v_failure.error_code, v_failure.message);
    elsif v_moved_side is null then
      -- Of a row that was deleted after its counterpart was written, that goes as well.
      update crossfade.mirror_failures f
      set written_side = k.written_side, operation = k.operation
      from unnest(v_known) k
      where f.id = v_failure.id and k.key = v_failure.moved_to and k.operation = 'DELETE'
        and k.at > v_failure.at;
    end if;
  end loop;
  return v_left;
end $$;

comment on function crossfade_private.move_counterparts is
  'Move the counterparts that could not follow one of the keys. Returns the keys, old and new, of those that still cannot: by key they would be deleted and made anew, and what only their table holds would be lost.';

-- runs/repair_plan.sql ----------------------------------------------------------------------------

-- What a repair would do, by key.

create or replace function crossfade.plan_repair(pair text, max_rows integer default 100)
returns jsonb
language plpgsql stable
security definer -- reads the owner's tables; only service_role may call it
set search_path = pg_catalog, pg_temp
-- As the mirror converts, whatever the session has set.
set timezone = 'UTC'
set datestyle = 'ISO, MDY'
set intervalstyle = 'postgres'
set extra_float_digits = 1
set bytea_output = 'hex'
as $$
declare
  v_pair crossfade.pairs := crossfade_private.get_pair(pair);
  v_rows jsonb;
begin
  if max_rows is null or max_rows not between 1 and 10000 then
    perform crossfade_private.fail(400, 'CF012', format('Invalid max_rows %s', max_rows),
      jsonb_build_object('max_rows', max_rows), 'Use 1 to 10000.');
  end if;
  with turn as materialized (
    select t.*, row_number() over () as n
    from crossfade_private.repair_turns(v_pair, max_rows, true) t
  ),
  plan as materialized (
    select g.side, crossfade_private.judge_keys(crossfade_private.run_pieces(
      v_pair, case g.side when 1 then 'v1_to_v2' else 'v2_to_v1' end), g.keys) as plan
    from (select t.side, array_agg(t.key) as keys from turn t group by t.side) g
  )
  select coalesce(jsonb_agg(jsonb_build_object(
    'key', q.key, 'table', case q.side when 1 then v_pair.v2_table else v_pair.v1_table end,
    'action', case when q.action <> 'gone' then q.action when q.has_failure then 'delete'
      else 'choose' end,
    'why', case
      when q.error is not null then format('%s; cannot be compared: %s', q.why, q.error)
      when q.action = 'gone' and not q.has_failure
        then format('only V%s has it, and nothing says which side was written', 3 - q.side)
      when q.action = 'delete' then q.why || '; the converter gives no row for it'
      else q.why end) order by q.n), '[]')
  into v_rows
  from (
    select t.*, p.plan -> t.key::text ->> 'action' as action,
      p.plan -> t.key::text ->> 'error' as error
    from turn t join plan p on p.side = t.side
  ) q where q.action is not null;
  return jsonb_build_object('rows', v_rows,
    'remaining', crossfade_private.repair_counts(v_pair) -> 'remaining',
    'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.plan_repair is
  'What repair would do to the next max_rows (1 to 10000) keys: {"rows": [{"key", "table": which is written, "action": insert|update|delete|choose, "why"}], "remaining": open keys}. choose: only the follower has the row, and no record explains it. Keys whose rows agree by now are left out. Reads only. CF001, CF012.';

-- runs/repair.sql ---------------------------------------------------------------------------------

-- Repair of what the mirror could not carry over and of what a verify run found.

create or replace function crossfade_private.repair_part(
  pair crossfade.pairs, turns jsonb, follower_only text, reason text
)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_group record;
  v_done jsonb;
  v_left jsonb[];
  v_stuck constant jsonb[] := crossfade_private.move_counterparts(
    pair, array(select t -> 'key' from jsonb_array_elements(turns) t));
  v_repaired integer := 0;
  v_failed integer;
begin
  select count(*) into v_failed
  from jsonb_array_elements(turns) t where t -> 'key' = any (v_stuck);
  for v_group in
    select t.side, t.has_failure, array_agg(t.key) as keys
    from jsonb_to_recordset(turns) t(key jsonb, side integer, has_failure boolean)
    where t.key <> all (v_stuck)
    group by t.side, t.has_failure order by t.has_failure desc, t.side
  loop
    -- An open failure is the evidence that a row which its side does not have is to be deleted.
    v_done := crossfade_private.repair_keys(pair, v_group.keys, v_group.side, v_group.has_failure,
      case when v_group.has_failure then 'delete' else follower_only end, reason);
    v_repaired := v_repaired + (v_done ->> 'repaired')::integer;
    v_failed := v_failed + (v_done ->> 'failed')::integer;
    v_left := array(select jsonb_array_elements(v_done -> 'left_alone'));
    if follower_only = 'copy' and cardinality(v_left) > 0 then
      v_done := crossfade_private.repair_keys(
        pair, v_left, 3 - v_group.side, false, 'keep', reason);
      v_repaired := v_repaired + (v_done ->> 'repaired')::integer;
      v_failed := v_failed + (v_done ->> 'failed')::integer;
    end if;
  end loop;
  return jsonb_build_object('repaired', v_repaired, 'failed', v_failed);
end $$;

comment on function crossfade_private.repair_part is
  'Repair some turns, [{"key", "side", "has_failure"}]: {"repaired", "failed"}.';

create or replace function crossfade.repair(
  pair text, max_rows integer default 500, reason text default null,
  follower_only text default 'keep'
)
returns jsonb
language plpgsql volatile
security definer -- writes the owner's tables; only service_role may call it
set search_path = pg_catalog, pg_temp
-- As the mirror converts, whatever the session has set.
set timezone = 'UTC'
set datestyle = 'ISO, MDY'
set intervalstyle = 'postgres'
set extra_float_digits = 1
set bytea_output = 'hex'
as $$
declare
  v_pair crossfade.pairs := crossfade_private.get_pair(pair);
  v_reason text := crossfade_private.release_reason(v_pair);
  v_started constant timestamptz := clock_timestamp();
  v_turns jsonb;
  v_part jsonb;
  v_done jsonb;
  v_repaired integer := 0;
  v_failed integer := 0;
begin
  if follower_only is null or follower_only not in ('keep', 'delete', 'copy')
    or max_rows is null or max_rows < 1 then
    perform crossfade_private.fail(400, 'CF012',
      format('Invalid follower_only "%s" or max_rows %s', follower_only, max_rows),
      jsonb_build_object('follower_only', follower_only, 'max_rows', max_rows),
      'follower_only is keep, delete or copy, max_rows at least 1.');
  end if;
  if v_pair.stage = 'off' then
    perform crossfade_private.fail(409, 'CF005',
      format('Cannot repair "%s": its writes are not mirrored (stage off)', pair),
      jsonb_build_object('pair', pair, 'stage', v_pair.stage),
      'What is copied now would be out of date with the next write. crossfade stage set PAIR dualwrite, then backfill.');
  end if;
  if v_reason is not null then
    perform crossfade_private.fail(409, 'CF011', format('Cannot repair "%s": %s', pair, v_reason),
      jsonb_build_object('pair', pair), 'Refresh the pair, or try again when it is installed.');
  end if;
  select coalesce(jsonb_agg(to_jsonb(t)), '[]') into v_turns
  from crossfade_private.repair_turns(v_pair, max_rows, follower_only <> 'keep') t;
  perform crossfade_private.begin_engine_write(pair);
  for v_part in
    -- All at once; what ran into a timeout alone, behind the others.
    select jsonb_agg(t - '{why,is_slow}'::text[] order by n)
    from jsonb_array_elements(v_turns) with ordinality u(t, n)
    group by case when (t ->> 'is_slow')::boolean then n end
    order by min(n) filter (where (t ->> 'is_slow')::boolean) nulls first
  loop
    exit when clock_timestamp() > v_started + interval '4 s';
    begin
      v_done := crossfade_private.repair_part(v_pair, v_part, follower_only, reason);
    exception when query_canceled then
      -- The clock of PostgreSQL has rung and does not ring twice: nothing more in this call.
      perform crossfade_private.mark_tried(pair, crossfade_private.same_error(
        array(select t -> 'key' from jsonb_array_elements(v_part) t),
        format('%s: %s', sqlstate, sqlerrm)), true);
      v_failed := v_failed + jsonb_array_length(v_part);
      exit;
    end;
    v_repaired := v_repaired + (v_done ->> 'repaired')::integer;
    v_failed := v_failed + (v_done ->> 'failed')::integer;
  end loop;
  perform crossfade_private.end_engine_write(pair);
  perform crossfade_private.open_or_close(pair);
  return crossfade_private.repair_counts(v_pair) || jsonb_build_object(
    'repaired', v_repaired, 'failed', v_failed, 'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.repair is
  'Settle up to max_rows open mirror failures and mismatches, all at once, those that ran into a timeout before one by one for about four seconds: {"repaired", "failed", "undecided", "remaining"}. A recorded failure says which side was written; else the leader of the stage wins. A row that only the follower has, and that no failure explains, is undecided and left alone unless follower_only says delete, or copy (into the leader). Those never tried come first, then those whose last try is longest ago. What is replaced or deleted is kept in crossfade.audit (repair.row). Locks both rows of each key and waits for nobody: a row that somebody holds, or that cannot be repaired, stays open, counts as failed and says why in its message. plan_repair shows it before. CF001, CF005 in stage off, CF012.';

-- runs/stored_rows.sql ----------------------------------------------------------------------------

-- What a table would store of a row that a converter makes, and which of its constraints refuse it,
-- found without writing anything. Constraints stand in these statements as their owner wrote them.

create or replace function crossfade_private.domain_tests(type_id oid, value_sql text)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with recursive layer(id, base, is_not_null, name) as (
    select y.oid, y.typbasetype, y.typnotnull, y.typname
    from pg_catalog.pg_type y where y.oid = type_id and y.typtype = 'd'
    union all
    select y.oid, y.typbasetype, y.typnotnull, y.typname
    from layer l join pg_catalog.pg_type y on y.oid = l.base and y.typtype = 'd'
  )
  select format('case when %s is null then %L end', value_sql, l.name || ' is not null')
  from layer l where l.is_not_null
  union all
  -- PostgreSQL prints the value of a domain as VALUE, which is a name like any other.
  select format('case when not (select %s from (select (%s)::%s as value) cf_v) then %L end',
    pg_get_expr(o.conbin, 0), value_sql, crossfade_private.base_type_name(type_id), o.conname)
  from layer l join pg_catalog.pg_constraint o on o.contypid = l.id and o.contype = 'c';
$$;

comment on function crossfade_private.domain_tests is
  'For each check of a domain and of the domains below it, SQL that gives its name when a value breaks it.';

create or replace function crossfade_private.row_tests(tab regclass)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format('case when (cf_k.cf_row).%I is null then %L end', a.attname,
    a.attname || ' is not null')
  from pg_catalog.pg_attribute a
  where a.attrelid = tab and a.attnum > 0 and a.attnotnull and not a.attisdropped
  union all
  select format('case when not (%s) then %L end', pg_get_expr(o.conbin, o.conrelid), o.conname)
  from pg_catalog.pg_constraint o
  where o.conrelid = tab and o.contype = 'c'
    -- PostgreSQL 18 has constraints that are not enforced.
    and coalesce((to_jsonb(o) ->> 'conenforced')::boolean, true);
$$;

comment on function crossfade_private.row_tests is
  'For each NOT NULL and CHECK of a table, SQL over its columns and cf_k.cf_row that gives its name when the row breaks it.';

create or replace function crossfade_private.stored_sql(tab regclass, made text, more_tests text[])
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format($sql$(
      select cf_1.cf_broken || coalesce(cf_2.cf_broken, '{}') as cf_broken, cf_2.cf_row
      from (select array_remove(array[%1$s]::text[], null) as cf_broken) cf_1
      left join lateral (
        select cf_k.cf_row, array_remove(array[%2$s]::text[], null) as cf_broken
        from (
          select row(%3$s)::%4$s as cf_row
          from (select %5$s, %7$L::regclass::oid as tableoid
            where cf_1.cf_broken = '{}' offset 0) cf_q
          offset 0
        ) cf_k
        cross join lateral unnest(array[cf_k.cf_row]) %6$I
        cross join (select %7$L::regclass::oid as tableoid) cf_table
        offset 0) cf_2 on true)$sql$,
    array_to_string(more_tests || array(
      select crossfade_private.domain_tests(f.atttypid, format('%s.%I', made, f.attname))
      from pg_catalog.pg_attribute f
      where f.attrelid = tab and f.attnum > 0 and not f.attisdropped and f.attgenerated = ''),
      ', '),
    array_to_string(array(select crossfade_private.row_tests(tab)), ', '),
    string_agg(case when a.attgenerated = '' then quote_ident(a.attname)
      else format('(%s)', pg_get_expr(d.adbin, d.adrelid)) end, ', ' order by a.attnum),
    tab,
    string_agg(format('%s.%I::%s as %2$I', made, a.attname,
      format_type(a.atttypid, a.atttypmod)), ', ' order by a.attnum)
      filter (where a.attgenerated = ''),
    (select c.relname from pg_catalog.pg_class c where c.oid = tab), tab::text)
  from pg_catalog.pg_attribute a
  left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
  where a.attrelid = tab and a.attnum > 0 and not a.attisdropped;
$$;

comment on function crossfade_private.stored_sql is
  'An item of FROM, after LATERAL, with what a table would store of the columns of alias made: cf_broken, the names of the constraints (and of more_tests) that refuse it, and cf_row, with computed columns; null when a domain refuses it.';

-- runs/laws.sql -----------------------------------------------------------------------------------

-- The laws of converters as queries: the base laws of single rows, and what becomes of edits.
-- Every query is over rows with keys in ($1, $2], leaves out the rows whose keys are in $3, and
-- gives key, law, columns, stored, converted and edit of what breaks a law.

create or replace function crossfade_private.made_sql(conversion text, condition text)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  -- The condition is no join clause: nothing may be converted that need not be convertible.
  select format('(select cf_x.*, true as cf_is, count(*) over () as cf_number from %s cf_x
    where %s offset 0 limit 1)', conversion, condition);
$$;

comment on function crossfade_private.made_sql is
  'An item of FROM, after LATERAL, with the row that a conversion makes and the number of those it makes.';

create or replace function crossfade_private.shown_columns(shown anyelement, columns text[])
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce((select jsonb_object_agg(c, v -> c) from unnest(columns) c where v ? c), v)
  from crossfade_private.json_value(to_json(shown)) v;
$$;

comment on function crossfade_private.shown_columns is
  'The columns of a row as JSON, for people; all of them when it has none of these names.';

create or replace function crossfade_private.check_pieces(pair crossfade.pairs, side integer)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pieces jsonb;
begin
  -- Of converters or tables that have changed since: what will run when they are registered again.
  if crossfade_private.converter_hash((pair).to_v2, (pair).to_v1) = (pair).converter_hash
    and crossfade_private.table_fingerprint(((pair).v1_table)::regclass,
      ((pair).v2_table)::regclass) = (pair).fingerprint
  then
    v_pieces := crossfade_private.run_pieces(pair, case side when 1 then 'v1_to_v2'
      else 'v2_to_v1' end);
  else
    v_pieces := crossfade_private.make_pieces(pair, side)
      || crossfade_private.inlined_pieces(crossfade_private.pair_conversions(pair), side);
  end if;
  return v_pieces || jsonb_build_object(
    'source_key_names', to_jsonb(case side when 1 then (pair).key_columns
      else (pair).v2_key_columns end),
    'target_key_names', to_jsonb(case side when 1 then (pair).v2_key_columns
      else (pair).key_columns end),
    'skey_4', crossfade_private.key_from_json((pair).key_columns, (v_pieces ->> 'source')::regclass,
      case side when 1 then (pair).key_columns else (pair).v2_key_columns end, '$4'),
    'call', case side when 1 then (pair).to_v2 else (pair).to_v1 end,
    'call_back', case side when 1 then (pair).to_v1 else (pair).to_v2 end,
    'rows', crossfade_private.render($sql$(
      select cf_s as cf_row, {skey_json_s} as cf_key, {skey_s}
      from {source} cf_s
      where ($1 is null or ({skey_s}) > ({skey_1})) and ({skey_s}) <= ({skey_2})
        and {skey_json_s} not in (select jsonb_array_elements($3)) offset 0)$sql$, v_pieces));
end $$;

comment on function crossfade_private.check_pieces is
  'The pieces of a pair with the text of its converters as it would be registered now, and what the laws'' queries need.';

create or replace function crossfade_private.base_laws_sql(pieces jsonb, side integer)
returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $outer$
declare
  v_source constant regclass := pieces ->> 'source';
  v_target constant regclass := pieces ->> 'target';
begin
  return crossfade_private.render($sql$
    select cf_n.cf_key as key, cf_v.*, null::jsonb as edit
    from {rows} cf_n
    left join lateral {made} cf_c on true
    left join lateral {stored} cf_m on cf_c.cf_is
    left join lateral {made_back} cf_d on true
    left join lateral {called} cf_e on true
    left join lateral {called_back} cf_f on true
    cross join lateral (
      -- Law 0 is none: the row has no counterpart.
      select 0 as law, '{}'::text[] as columns, null::jsonb as stored, null::jsonb as converted
      where cf_c.cf_is is null
      union all
      select {side}, '{"no counterpart"}', crossfade_private.shown_columns(cf_n.cf_row, '{}'), null
      where cf_c.cf_is is null and exists (
        select from {target} cf_t cross join lateral {convert_back} cf_t {with_back} cf_n.cf_row
          {converted_back} cf_x where ({tkey_t}) = ({skey_n}))
      union all
      select 7,
        cf_m.cf_broken || case when cf_c.cf_number > 1 then '{"one row"}'::text[] else '{}' end,
        null, crossfade_private.shown_columns(cf_c, '{}') - 'cf_is'::text - 'cf_number'::text
      where cf_m.cf_broken <> '{}' or cf_c.cf_number > 1
      union all
      select {side}, cf_w.columns, crossfade_private.shown_columns(cf_n.cf_row, cf_w.columns),
        crossfade_private.shown_columns(cf_d, cf_w.columns)
      from (select case when cf_d.cf_is is null then '{"no row"}' when cf_d.cf_number > 1
        then '{"one row"}' else {different} end) cf_w(columns)
      where cf_m.cf_broken = '{}' and cf_w.columns <> '{}'
      union all
      select 6, cf_w.columns, crossfade_private.shown_columns(cf_c, cf_w.columns),
        crossfade_private.shown_columns(cf_e, cf_w.columns)
      from (select {unlike}) cf_w(columns)
      where (cf_m.cf_broken = '{}' or cf_c.cf_is is null) and cf_w.columns <> '{}'
      union all
      select 6, cf_w.columns, crossfade_private.shown_columns(cf_d, cf_w.columns),
        crossfade_private.shown_columns(cf_f, cf_w.columns)
      from (select {unlike_back}) cf_w(columns)
      where cf_m.cf_broken = '{}' and cf_w.columns <> '{}'
    ) cf_v
  $sql$, pieces || jsonb_build_object('side', side,
    'made', crossfade_private.made_sql(crossfade_private.render(
      '{convert} cf_n.cf_row {with} null::{target} {converted}', pieces), 'true'),
    'stored', crossfade_private.stored_sql(v_target, 'cf_c', array[crossfade_private.render(
      'case when row({tkey_c}) is distinct from row({skey_n}) then ''the same key'' end', pieces)]),
    'made_back', crossfade_private.made_sql(crossfade_private.render(format(
      '{convert_back} cf_m.cf_row {with_back} %s {converted_back}',
      case side when 1 then 'null::{source}' else 'cf_n.cf_row' end), pieces),
      'cf_m.cf_broken = ''{}'''),
    'called', crossfade_private.made_sql(crossfade_private.render(
      '{call}(cf_n.cf_row, null::{target})', pieces),
      'cf_m.cf_broken = ''{}'' or cf_c.cf_is is null'),
    'called_back', crossfade_private.made_sql(crossfade_private.render(format(
      '{call_back}(cf_m.cf_row, %s)', case side when 1 then 'null::{source}'
        else 'cf_n.cf_row' end), pieces), 'cf_m.cf_broken = ''{}'''),
    'different', crossfade_private.differing_columns_sql(
      v_source, '(cf_n.cf_row)', 'cf_d', laws => true),
    'unlike', crossfade_private.differing_columns_sql(v_target, 'cf_c', 'cf_e'),
    'unlike_back', crossfade_private.differing_columns_sql(v_source, 'cf_d', 'cf_f')));
end $outer$;

comment on function crossfade_private.base_laws_sql is
  'Law 1 or 2 (there and back is the same row), 6 (what our statements compute is what a call computes), 7 (constraints, the same key, one row), and 0 for rows without a counterpart.';

create or replace function crossfade_private.digests_sql(pieces jsonb, side integer)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $outer$
  select crossfade_private.render($sql$
    select cf_n.cf_key as key, 6 as law, '{}'::text[] as columns, null::jsonb as stored,
      null::jsonb as converted, null::jsonb as edit,
      md5(concat_ws(',', cf_c::text, cf_d::text)) as made
    from {rows} cf_n
    left join lateral {made} cf_c on true
    left join lateral {stored} cf_m on cf_c.cf_is
    left join lateral {made_back} cf_d on true
  $sql$, pieces || jsonb_build_object(
    'made', crossfade_private.made_sql(crossfade_private.render(
      '{convert} cf_n.cf_row {with} null::{target} {converted}', pieces), 'true'),
    'stored', crossfade_private.stored_sql((pieces ->> 'target')::regclass, 'cf_c', '{}'),
    'made_back', crossfade_private.made_sql(crossfade_private.render(
      '{convert_back} cf_m.cf_row {with_back} null::{source} {converted_back}', pieces),
      'cf_m.cf_broken = ''{}''')));
$outer$;

comment on function crossfade_private.digests_sql is
  'A digest of what the converters make of each row, by which it is seen whether settings make a difference.';

-- runs/edit_laws.sql ------------------------------------------------------------------------------

-- What becomes of edits: laws 3 (an edit wins) and 4 (what it did not touch survives). The edits
-- are made of the rows at hand: a row gets the values of the next one, in all columns or in one.

create or replace function crossfade_private.edited_sql(
  tab regclass, key text[], one_sql text, other_sql text
)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- By a hash of the key: a row gets the same edit whichever rows are looked at with it.
  select format('(select %s)', string_agg(case
    when c.is_key then format('(%s).%I as %2$I', one_sql, c.attname)
    else format('case when cf_n.cf_edit %% 2 = 0 or cf_n.cf_edit / 2 %% %s = %s
      then (%s).%I else (%s).%4$I end as %4$I', c.number, c.place, other_sql, c.attname, one_sql)
    end, ', ' order by c.attnum))
  from (
    select a.attname, a.attnum, k.is_key, count(*) over (partition by k.is_key) as number,
      row_number() over (partition by k.is_key order by a.attnum) - 1 as place
    from pg_catalog.pg_attribute a
    cross join lateral (select a.attname = any (key)) k(is_key)
    where a.attrelid = tab and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
  ) c;
$$;

comment on function crossfade_private.edited_sql is
  'An item of FROM with the columns of a row, all but the key or one of them taken from another row; by cf_n.cf_edit.';

create or replace function crossfade_private.lost_columns_sql(tab regclass)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- What a fresh conversion makes alike of the row before and after the edit hangs on nothing that
  -- was edited.
  select format('array_remove(array[%s]::text[], null)', string_agg(
    format('case when %s and not %s then %L end', d.breaks, f.breaks, d.name), ', '))
  from crossfade_private.column_differences(tab, '(cf_g.cf_other)', '(cf_o.cf_row)') d
  join crossfade_private.column_differences(tab, 'cf_fresh_1', 'cf_fresh_2') f using (name);
$$;

comment on function crossfade_private.lost_columns_sql is
  'SQL for the names of the columns of a counterpart that an edit changed and does not feed.';

create or replace function crossfade_private.kept_columns_sql(tab regclass)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format('(select %s)', string_agg(format(
    'case when %L = any (cf_l.cf_lost) then (cf_g.cf_other).%I else (cf_o.cf_row).%2$I end as %2$I',
    a.attname, a.attname), ', ' order by a.attnum))
  from pg_catalog.pg_attribute a
  where a.attrelid = tab and a.attnum > 0 and not a.attisdropped and a.attgenerated = '';
$$;

comment on function crossfade_private.kept_columns_sql is
  'An item of FROM with the edited counterpart as it would be, had it kept what lost_columns_sql names.';

create or replace function crossfade_private.rows_before_edit_sql(pieces jsonb, of_source boolean)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $outer$
  select crossfade_private.render(case when of_source then $sql$(
      select cf_n.cf_row, cf_p.cf_row as cf_next, coalesce(cf_r.cf_row, cf_m.cf_row) as cf_other
      from {made_first} cf_c
      cross join lateral {stored_first} cf_m
      -- The stored counterpart, which may hold more than can be made of the row, if it agrees.
      left join lateral (
        select cf_t as cf_row
        from {target} cf_t
        cross join lateral {convert} cf_n.cf_row {with} cf_t {converted} cf_x
        where ({tkey_t}) = ({skey_n}) and {unlike_stored} = '{}' limit 1) cf_r on true
      where cf_m.cf_broken = '{}' offset 0)$sql$
    else $sql$(
      select cf_m.cf_row, cf_m2.cf_row as cf_next, cf_n.cf_row as cf_other
      from {made_first} cf_c
      cross join lateral {stored_first} cf_m
      cross join lateral {made_second} cf_c2
      cross join lateral {stored_second} cf_m2
      where cf_m.cf_broken = '{}' and cf_m2.cf_broken = '{}' offset 0)$sql$ end,
    pieces || jsonb_build_object(
      'made_first', crossfade_private.made_sql(crossfade_private.render(
        '{convert} cf_n.cf_row {with} null::{target} {converted}', pieces), 'true'),
      'made_second', crossfade_private.made_sql(crossfade_private.render(
        '{convert} cf_p.cf_row {with} null::{target} {converted}', pieces), 'true'),
      'stored_first', crossfade_private.stored_sql(t.tab, 'cf_c', '{}'),
      'stored_second', crossfade_private.stored_sql(t.tab, 'cf_c2', '{}'),
      'unlike_stored', crossfade_private.differing_columns_sql(
        t.tab, 'cf_t', 'cf_x', laws => true)))
  from (select (pieces ->> 'target')::regclass) t(tab);
$outer$;

comment on function crossfade_private.rows_before_edit_sql is
  'An item of FROM: the row that is edited, cf_row, the one that it gets values from, cf_next, and the counterpart, cf_other; of_source says which side writes.';

create or replace function crossfade_private.edit_pieces(
  pieces jsonb, side integer, of_source boolean
)
returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_tab constant regclass := pieces ->> case when of_source then 'source' else 'target' end;
  v_other constant regclass := pieces ->> case when of_source then 'target' else 'source' end;
  v_there constant text := case when of_source then '{convert} %s {with} %s {converted}'
    else '{convert_back} %s {with_back} %s {converted_back}' end;
  v_back constant text := format(case when of_source
    then '{convert_back} %s {with_back} %s {converted_back}'
    else '{convert} %s {with} %s {converted}' end, '%s',
    -- V2 holds all that V1 can show, so an edit of V1 must come back also with the row as it was.
    case when (side = 1) = of_source then 'cf_g.cf_row' else 'cf_u.cf_row' end);
  v_none constant text := case when of_source then 'null::{target}' else 'null::{source}' end;
  v_made record;
  v_pieces jsonb := '{}'::jsonb;
begin
  for v_made in
    select m.name, crossfade_private.made_sql(crossfade_private.render(m.conversion, pieces),
      m.condition || '.cf_broken = ''{}''') as sql
    from (values
      ('made', format(v_there, 'cf_u.cf_row', 'cf_g.cf_other'), 'cf_u'),
      ('made_back', format(v_back, 'cf_o.cf_row'), 'cf_o'),
      ('made_again', format(v_there, 'cf_u.cf_row', 'cf_o.cf_row'), 'cf_o'),
      ('made_fresh_1', format(v_there, 'cf_g.cf_row', v_none), 'cf_o'),
      ('made_fresh_2', format(v_there, 'cf_u.cf_row', v_none), 'cf_o'),
      ('made_kept', format(v_back, 'cf_h.cf_row'), 'cf_h')) m(name, conversion, condition)
  loop
    v_pieces := v_pieces || jsonb_build_object(v_made.name, v_made.sql);
  end loop;
  return pieces || v_pieces || jsonb_build_object(
    'before', crossfade_private.rows_before_edit_sql(pieces, of_source),
    'edit', crossfade_private.edited_sql(v_tab, array(select jsonb_array_elements_text(
      pieces -> case when of_source then 'source_key_names' else 'target_key_names' end)),
      'cf_g.cf_row', 'cf_g.cf_next'),
    'stored', crossfade_private.stored_sql(v_tab, 'cf_w', '{}'),
    'stored_other', crossfade_private.stored_sql(v_other, 'cf_c', '{}'),
    'stored_kept', crossfade_private.stored_sql(v_other, 'cf_k', '{}'),
    'lost', crossfade_private.lost_columns_sql(v_other),
    'kept', crossfade_private.kept_columns_sql(v_other),
    'edited', crossfade_private.differing_columns_sql(v_tab, '(cf_g.cf_row)', '(cf_u.cf_row)'),
    'unlike', crossfade_private.differing_columns_sql(v_tab, '(cf_u.cf_row)', 'cf_d', laws => true),
    'unlike_again', crossfade_private.differing_columns_sql(
      v_other, '(cf_o.cf_row)', 'cf_e', laws => true),
    'unlike_kept', crossfade_private.differing_columns_sql(
      v_tab, '(cf_u.cf_row)', 'cf_i', laws => true));
end $$;

comment on function crossfade_private.edit_pieces is
  'The pieces of edit_laws_sql; of_source says whether the side that is checked writes, or the other one.';

create or replace function crossfade_private.edit_laws_sql(
  pieces jsonb, side integer, of_source boolean
)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $outer$
  select crossfade_private.render($sql$
    select cf_n.cf_key as key, cf_v.*,
      crossfade_private.shown_columns(cf_u.cf_row, {edited}) as edit
    from (select cf_n.*, hashtext(cf_n.cf_key::text) & 2147483647 as cf_edit from {rows} cf_n) cf_n
    join lateral (
      select cf_s as cf_row, {skey_json_s} as cf_key from {source} cf_s
      where ({skey_s}) > ({skey_n}) and ({skey_s}) <= ({skey_4}) order by {skey_s} limit 1
    ) cf_p on cf_p.cf_key not in (select jsonb_array_elements($3))
    cross join lateral {before} cf_g
    cross join lateral {edit} cf_w
    cross join lateral {stored} cf_u
    cross join lateral {made} cf_c
    cross join lateral {stored_other} cf_o
    left join lateral {made_back} cf_d on true
    left join lateral {made_again} cf_e on true
    left join lateral {made_fresh_1} cf_fresh_1 on true
    left join lateral {made_fresh_2} cf_fresh_2 on true
    left join lateral (
      select {lost} as cf_lost where cf_fresh_1.cf_is and cf_fresh_2.cf_is offset 0) cf_l on true
    left join lateral (
      select cf_k.* from {kept} cf_k where cf_l.cf_lost <> '{}' offset 0) cf_k on true
    left join lateral {stored_kept} cf_h on cf_l.cf_lost <> '{}'
    left join lateral {made_kept} cf_i on true
    cross join lateral (
      select 7 as law, cf_o.cf_broken as columns, null::jsonb as stored,
        crossfade_private.shown_columns(cf_c, '{}') - 'cf_is'::text - 'cf_number'::text as converted
      where cf_o.cf_broken <> '{}'
      union all
      select 3, cf_q.columns, crossfade_private.shown_columns(cf_u.cf_row, cf_q.columns),
        crossfade_private.shown_columns(cf_d, cf_q.columns)
      from (select {unlike}) cf_q(columns)
      where cf_o.cf_broken = '{}' and cf_q.columns <> '{}'
      union all
      select 3, cf_q.columns, crossfade_private.shown_columns(cf_o.cf_row, cf_q.columns),
        crossfade_private.shown_columns(cf_e, cf_q.columns)
      from (select {unlike_again}) cf_q(columns)
      where cf_o.cf_broken = '{}' and cf_q.columns <> '{}'
      union all
      -- A counterpart that keeps them would have shown the edit as well.
      select 4, cf_l.cf_lost, crossfade_private.shown_columns(cf_g.cf_other, cf_l.cf_lost),
        crossfade_private.shown_columns(cf_o.cf_row, cf_l.cf_lost)
      where cf_o.cf_broken = '{}' and cf_i.cf_is and {unlike_kept} = '{}'
    ) cf_v
    where cf_u.cf_broken = '{}'
  $sql$, crossfade_private.edit_pieces(pieces, side, of_source));
$outer$;

comment on function crossfade_private.edit_laws_sql is
  'Laws 3 and 4, and 7 for what an edit makes. In it cf_g is the row before the edit with its counterpart, cf_u the edited row, cf_o the counterpart that is made of it, cf_d what comes back, cf_e the same edit again.';

-- runs/conversion_check.sql -----------------------------------------------------------------------

-- Proving converters on stored rows, with the text that runs. The functions are stable so that all
-- their queries see one snapshot: a row that somebody edits between two looks proves nothing.

create or replace function crossfade_private.run_check(
  query text, keys jsonb[], first integer, last integer, after_key jsonb, dirty jsonb
)
returns setof jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
-- As in the mirror and in runs; a session may have others.
set timezone = 'UTC'
set datestyle = 'ISO, MDY'
set intervalstyle = 'postgres'
set extra_float_digits = 1
set bytea_output = 'hex'
as $$
declare
  v_middle constant integer := (first + last) / 2;
begin
  if first > last then
    return;
  end if;
  begin
    return query execute format('select to_jsonb(x) || ''{"error": null}'' from (%s) x', query)
    using case when first = 1 then after_key else keys[first - 1] end, keys[last], dirty,
      keys[cardinality(keys)];
    return;
  exception when others or assert_failure then
    if crossfade_private.is_transient(sqlstate) then
      raise;
    elsif first = last then
      return next jsonb_build_object('key', keys[first], 'law', 5, 'columns', '[]'::jsonb,
        'stored', null, 'converted', null, 'edit', null,
        'error', format('%s: %s', sqlstate, sqlerrm));
      return;
    end if;
  end;
  -- Something raises. For which rows?
  return query
    select crossfade_private.run_check(query, keys, first, v_middle, after_key, dirty);
  return query
    select crossfade_private.run_check(query, keys, v_middle + 1, last, after_key, dirty);
end $$;

comment on function crossfade_private.run_check is
  'What a query of runs/laws.sql finds among the rows first to last of keys; a row for which it raises breaks law 5.';

create or replace function crossfade_private.run_check_elsewhere(
  query text, keys jsonb[], after_key jsonb, dirty jsonb
)
returns setof jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
-- What a session, a role or the header of a request may set. The engine's statements have their own
-- values of the first ones, and none of the others.
set timezone = 'Asia/Kathmandu'
set datestyle = 'German'
set intervalstyle = 'sql_standard'
set extra_float_digits = -15
set bytea_output = 'escape'
set lc_monetary = 'C'
set lc_numeric = 'C'
set lc_time = 'C'
set default_text_search_config = 'pg_catalog.simple'
set xmlbinary = 'hex'
set xmloption = 'document'
set array_nulls = off
set transform_null_equals = on
set quote_all_identifiers = on
as $$
declare
  v_claims constant text := current_setting('request.jwt.claims', true);
begin
  perform set_config('request.jwt.claims',
    '{"sub": "00000000-0000-4000-8000-00000000cf06", "role": "authenticated"}', true);
  return query
    select crossfade_private.run_check(query, keys, 1, cardinality(keys), after_key, dirty);
  perform set_config('request.jwt.claims', coalesce(v_claims, ''), true);
end $$;

comment on function crossfade_private.run_check_elsewhere is
  'run_check for a session of another user, in another place.';

create or replace function crossfade_private.check_rows(
  pieces jsonb, side integer, keys jsonb[], after_key jsonb
)
returns setof jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_last constant integer := cardinality(keys);
  v_found jsonb[] := array(select crossfade_private.run_check(
    crossfade_private.base_laws_sql(pieces, side), keys, 1, v_last, after_key, '[]'));
  v_dirty jsonb;
  v_here jsonb[];
begin
  -- What follows from a broken law is no news: such a row is not edited, nor another one by it.
  v_dirty := coalesce((select jsonb_agg(distinct f -> 'key') from unnest(v_found) f), '[]');
  v_found := v_found || array(select crossfade_private.run_check(
    crossfade_private.edit_laws_sql(pieces, side, true) || ' union all '
      || crossfade_private.edit_laws_sql(pieces, side, false),
    keys, 1, v_last, after_key, v_dirty));
  v_here := array(select crossfade_private.run_check(crossfade_private.digests_sql(pieces, side),
    keys, 1, v_last, after_key, v_dirty));
  return query
    select distinct on (f -> 'key', f -> 'law') f from unnest(v_found) f
    union all
    select (f - 'made') || jsonb_build_object('law', 6, 'error', coalesce(f ->> 'error',
      'the result is another one in a session with other settings, or at another time'))
    from crossfade_private.run_check_elsewhere(crossfade_private.digests_sql(pieces, side), keys,
      after_key, v_dirty) f
    left join unnest(v_here) h on h -> 'key' = f -> 'key'
    where f -> 'made' is distinct from h -> 'made';
end $$;

comment on function crossfade_private.check_rows is
  'Everything that breaks a law among the rows with these keys, one for each row and law; law 0: the row has no counterpart.';

create or replace function crossfade_private.next_keys(
  pieces jsonb, after_key jsonb, max_rows integer
)
returns jsonb[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_keys jsonb[];
begin
  execute crossfade_private.render($sql$
    select array(
      select {skey_json_s} from {source} cf_s where $1 is null or ({skey_s}) > ({skey_1})
      order by {skey_s} limit $2)
  $sql$, pieces) into v_keys using after_key, max_rows;
  return v_keys;
end $$;

comment on function crossfade_private.next_keys is
  'Keys of the next rows after a key, in their order.';

create or replace function crossfade.check_conversion(
  pair text, side integer default 1, after jsonb default null, max_rows integer default 1000
)
returns jsonb
language plpgsql volatile
security definer -- reads the owner's tables; only service_role may call it
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pair crossfade.pairs := crossfade_private.get_pair(pair);
  v_pieces jsonb;
  v_keys jsonb[];
  v_answer jsonb;
begin
  if side not in (1, 2) or max_rows not between 1 and 100000 then
    perform crossfade_private.fail(400, 'CF012',
      format('Invalid side %s or max_rows %s', side, max_rows),
      jsonb_build_object('side', side, 'max_rows', max_rows),
        'side is 1 or 2, max_rows 1 to 100000.');
  end if;
  perform crossfade_private.refuse_retired(v_pair, 'check the converters of');
  v_pieces := crossfade_private.check_pieces(v_pair, side);
  v_keys := crossfade_private.next_keys(v_pieces, after, max_rows);
  select jsonb_build_object(
    'violations', coalesce(jsonb_agg(f.found order by f.place)
      filter (where f.law <> 0 and f.place <= 100), '[]'),
    'violated', coalesce((select jsonb_object_agg(n.law, n.number) from (
      select g ->> 'law', count(*) from unnest(array_agg(f.found)) g
      where g ->> 'law' <> '0' group by 1) n(law, number)), '{}'),
    'no_counterpart', count(*) filter (where f.law = 0))
  into v_answer
  from (
    select r as found, (r -> 'law')::integer as law, row_number() over (
      order by r ->> 'law' = '0', array_position(v_keys, r -> 'key'), r ->> 'law') as place
    from crossfade_private.check_rows(v_pieces, side, v_keys, after) r
  ) f;
  return v_answer || jsonb_build_object(
    'rows_checked', cardinality(v_keys), 'done', cardinality(v_keys) < max_rows,
    'last_key', case when cardinality(v_keys) = max_rows then v_keys[max_rows] end,
    'rows_total', (
      select greatest(c.reltuples, 0)::bigint from pg_catalog.pg_class c
      where c.oid = (v_pieces ->> 'source')::regclass));
end $$;

comment on function crossfade.check_conversion is
  'Prove the laws of both converters on the next max_rows live rows of a side, with the text that our statements run and by calls: {"rows_checked", "violations": the first 100, [{"key", "law", "columns", "error", "stored", "converted", "edit"}], "violated": {law: rows}, "no_counterpart": rows of which the converter makes none, "last_key", "done", "rows_total" (estimate)}. Laws: 1 V1 round trip, 2 V2 round trip, 3 an edit wins, 4 what it did not touch survives (edits: the values of the next row), 5 a converter raised, 6 settings, the time or a call make a difference, 7 a constraint of the other table (columns names it; "the same key": the converter changes it; "one row": it makes several). Reads only. CF001, CF012.';

-- runs/carry.sql ----------------------------------------------------------------------------------

-- Filling the column of a carried key.

create or replace function crossfade_private.fill_json(fill crossfade_private.key_fills)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- As a run of a pair: one driver and one bar serve both.
  select jsonb_build_object('run', jsonb_build_object('id', 0, 'kind', 'fill',
      'pair', (fill).table_name, 'state', v.state, 'rows_total', (
        select greatest(c.reltuples, 0)::bigint from pg_catalog.pg_class c
        where c.oid = to_regclass((fill).table_name)),
      'rows_done', (fill).rows_done, 'rows_written', (fill).rows_written,
      'batches', (fill).batches, 'batch_rows', (fill).batch_rows, 'started_at', (fill).started_at,
      'progress_at', (fill).progress_at),
    'state', v.state, 'reason', null, 'blocking', '[]'::jsonb, 'rows_read', 0, 'rows_written', 0,
    'mismatches', 0, 'batch_ms', 0, 'wait_ms', 0, 'flags_version', crossfade.flags_version())
  from (select case when (fill).done then 'finished' else 'running' end) v(state);
$$;

comment on function crossfade_private.fill_json is
  'The answer of a batch of a fill before its own figures are added.';

create or replace function crossfade_private.check_fill(
  tab regclass, column_name text, fires_triggers boolean
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_problems text[] := array(select p from crossfade_private.carry_problems(tab, column_name) p);
  v_triggers text;
begin
  if v_problems = '{}' and not coalesce((
      crossfade_private.carry_state(tab, column_name) ->> 'default')::boolean, false) then
    v_problems := array[format('column "%s" is not there yet, or has no default', column_name)];
  end if;
  if v_problems <> '{}' then
    perform crossfade_private.fail(409, 'CF012',
      format('Cannot fill "%s" of %s: %s', column_name, tab, array_to_string(v_problems, '; ')),
      jsonb_build_object('table', tab::text, 'problems', to_jsonb(v_problems)),
      format('See: crossfade key carry %s', tab));
  end if;
  select string_agg(g.name, ', ') into v_triggers
  from crossfade_private.fill_triggers(tab, column_name) g;
  if v_triggers is not null and not coalesce(fires_triggers, false) then
    perform crossfade_private.fail(409, 'CF013',
      format('Cannot fill "%s" of %s: triggers of its owner would run for every row (%s)',
        column_name, tab, v_triggers),
      jsonb_build_object('table', tab::text, 'triggers', v_triggers),
      format(
        'Give them a condition: the first migration shows it. Or let them run: crossfade key carry %s --fire-triggers --yes',
        tab));
  end if;
end $$;

comment on function crossfade_private.check_fill is
  'Refuse a fill (CF012), or one that would fire triggers that nobody has asked for (CF013).';

create or replace function crossfade_private.fill_rows(
  tab regclass, column_name text, after jsonb, max_rows integer
)
returns table (cursor_key jsonb, rows_read bigint, rows_written bigint)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '500ms'
-- A batch is found by its keys, whatever the statistics of the table say or do not say.
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
  v_key constant text[] := crossfade_private.primary_key(tab);
  v_names text;
  v_same text;
begin
  select string_agg(format('s.%I', k), ', ' order by n),
    string_agg(format('t.%1$I = l.%1$I', k), ' and ' order by n)
  into v_names, v_same from unnest(v_key) with ordinality u(k, n);
  -- Locked in the order of the key, as everybody who locks several rows should. What a client has
  -- filled meanwhile stays.
  return query execute format($sql$
    with part as materialized (
      select %1$s from %2$s s %3$s order by %1$s limit $2
    ),
    locked as materialized (
      select %1$s from %2$s s
      where (%1$s) in (select %5$s from part) and s.%4$I is null
      order by %1$s for no key update of s
    ),
    filled as (
      update %2$s t set %4$I = default from locked l
      where %6$s and t.%4$I is null returning 1
    )
    select (select %7$s from part s order by %8$s limit 1), (select count(*) from part),
      (select count(*) from filled)
  $sql$, v_names, tab,
    case when after is not null then format('where (%s) > (%s)', v_names,
      crossfade_private.key_from_json(v_key, tab, v_key, '$1')) end,
    column_name, replace(v_names, 's.', 'part.'), v_same,
    crossfade_private.key_to_json(v_key, tab, v_key, 's'),
    (select string_agg(format('s.%I desc', k), ', ' order by n)
    from unnest(v_key) with ordinality u(k, n)))
  using after, max_rows;
end $$;

comment on function crossfade_private.fill_rows is
  'Give the rows after a key (null: all) that have none a value, up to max_rows of them looked at; cursor_key is the last one. Locks those rows, waits at most 0.5 s for one (55P03).';

create or replace function crossfade_private.fill_batch(
  fill crossfade_private.key_fills, tab regclass, wanted_ms integer
)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_fill crossfade_private.key_fills := fill;
  v_range crossfade.run_ranges := jsonb_populate_record(
    null::crossfade.run_ranges, to_jsonb(fill));
  v_from timestamptz;
  v_ms numeric;
  v_key jsonb;
  v_read bigint := 0;
  v_written bigint := 0;
  v_wait jsonb := '{}'::jsonb;
begin
  -- Batches of this fill are nobody else's transactions.
  v_range.load_seen := v_range.load_seen + (fill).batches;
  v_range := crossfade_private.look_at_load(v_range);
  v_fill.load_seen := v_range.load_seen - (fill).batches;
  v_fill.load_seen_at := v_range.load_seen_at;
  v_fill.is_busy := v_range.is_busy;
  v_fill.batches := (fill).batches + 1;
  v_from := clock_timestamp();
  begin
    select r.cursor_key, r.rows_read, r.rows_written into v_key, v_read, v_written
    from crossfade_private.fill_rows(
      tab, (fill).column_name, (fill).cursor_key, (fill).batch_rows) r;
  exception
    when lock_not_available or deadlock_detected then
      v_wait := '{"state": "waiting"}'
        || crossfade_private.locked_reason('a row is locked', array[tab]);
    when query_canceled then
      v_wait := jsonb_build_object('state', 'shrunk', 'reason', sqlerrm);
  end;
  v_ms := extract(epoch from clock_timestamp() - v_from) * 1000;
  if v_wait <> '{}' then
    v_fill.batch_rows := greatest((fill).batch_rows / 2, 1);
  else
    v_fill.done := v_read < (fill).batch_rows;
    v_fill.cursor_key := coalesce(v_key, (fill).cursor_key);
    v_fill.rows_done := (fill).rows_done + v_read;
    v_fill.rows_written := (fill).rows_written + v_written;
    v_fill.progress_at := clock_timestamp();
    if v_read > 0 then
      v_fill.ms_per_1000_rows := ((fill).ms_per_1000_rows || round(v_ms * 1000 / v_read, 3))[
        greatest(cardinality((fill).ms_per_1000_rows) - 8, 1):];
      v_fill.batch_rows := crossfade_private.next_batch_rows(v_read, v_fill.ms_per_1000_rows,
        crossfade_private.target_ms(v_range, wanted_ms));
    end if;
  end if;
  update crossfade_private.key_fills f
  set cursor_key = v_fill.cursor_key, done = v_fill.done, rows_done = v_fill.rows_done,
    rows_written = v_fill.rows_written, batches = v_fill.batches, batch_rows = v_fill.batch_rows,
    ms_per_1000_rows = v_fill.ms_per_1000_rows, progress_at = v_fill.progress_at,
    is_busy = v_fill.is_busy, load_seen_at = v_fill.load_seen_at, load_seen = v_fill.load_seen
  where f.table_name = v_fill.table_name and f.column_name = v_fill.column_name;
  return crossfade_private.fill_json(v_fill) || jsonb_build_object('rows_read', v_read,
    'rows_written', v_written, 'batch_ms', round(v_ms, 1),
    'wait_ms', crossfade_private.wait_ms(v_range, v_ms, 1)) || v_wait;
end $$;

comment on function crossfade_private.fill_batch is
  'Fill the next rows and keep how far it came, in this transaction; the answer of crossfade.carry_batch.';

create or replace function crossfade_private.lock_fill(tab regclass, column_name text)
returns crossfade_private.key_fills
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_fill crossfade_private.key_fills;
begin
  insert into crossfade_private.key_fills (table_name, column_name, batch_rows)
  values (tab::text, lock_fill.column_name,
    crossfade_private.setting_number('batch_first_rows')::integer)
  on conflict on constraint key_fills_pkey do nothing;
  if found then
    perform crossfade_private.audit('key.fill', tab::text, null, null,
      jsonb_build_object('column', lock_fill.column_name));
  end if;
  select f.* into v_fill from crossfade_private.key_fills f
  where f.table_name = tab::text and f.column_name = lock_fill.column_name
  for update skip locked;
  if v_fill.table_name is null then
    return null;
  end if;
  if crossfade_private.is_filled(tab, column_name) then
    v_fill.done := true;
  elsif v_fill.done then
    v_fill.done := false; -- somebody has written null behind it
    v_fill.cursor_key := null;
  end if;
  return v_fill;
end $$;

comment on function crossfade_private.lock_fill is
  'The fill of a column, locked until the transaction ends, made if there is none; null while another session has it.';

create or replace function crossfade.carry_batch(
  name text, column_name text default 'uid', fires_triggers boolean default false,
  target_ms integer default null
)
returns jsonb
language plpgsql volatile
security definer -- fills rows of the owner's table; only service_role may call it
set search_path = pg_catalog, pg_temp
-- A key is read back from JSON as it was noted, whatever the session has set.
set timezone = 'UTC'
set datestyle = 'ISO, MDY'
set intervalstyle = 'postgres'
set extra_float_digits = 1
set bytea_output = 'hex'
set quote_all_identifiers = off
as $$
declare
  v_table constant regclass := crossfade_private.find_table(name);
  v_fill crossfade_private.key_fills;
  v_wait jsonb;
begin
  perform crossfade_private.check_fill(v_table, column_name, fires_triggers);
  v_fill := crossfade_private.lock_fill(v_table, column_name);
  if v_fill.table_name is null then
    select f.* into v_fill from crossfade_private.key_fills f
    where f.table_name = v_table::text and f.column_name = carry_batch.column_name;
    return crossfade_private.fill_json(v_fill)
      || '{"state": "waiting", "reason": "another session fills it"}';
  end if;
  if v_fill.done then
    update crossfade_private.key_fills f set done = true
    where f.table_name = v_fill.table_name and f.column_name = v_fill.column_name;
    return crossfade_private.fill_json(v_fill);
  end if;
  v_wait := case
    when not pg_try_advisory_xact_lock_shared(crossfade_private.release_lock_key())
      then '{"state": "waiting", "reason": "a release of crossfade is being installed"}'
    else '{"state": "throttled"}' || crossfade_private.load_reason() end;
  if v_wait is not null then
    return crossfade_private.fill_json(v_fill) || v_wait;
  end if;
  return crossfade_private.fill_batch(v_fill, v_table, target_ms);
end $$;

comment on function crossfade.carry_batch is
  'Fill the next rows of the column of a carried key, in this transaction, of about target_ms (null: settings batch_target_ms, or batch_idle_target_ms while nobody else uses the database). The answer is that of backfill_batch, of a run of kind fill whose pair is the table. Call it until it is finished. Rows are locked FOR NO KEY UPDATE, one is waited for at most 0.5 s. fires_triggers: let the owner''s triggers run for every row. CF012 the table or column cannot be filled, CF013 triggers that nobody has allowed.';

-- runs/continuous.sql -----------------------------------------------------------------------------

-- Continuous verification: a few rows all the time.

create or replace function crossfade.verify_some(pair text, max_rows integer default 200)
returns jsonb
language plpgsql volatile
security definer -- reads the owner's tables; only service_role may call it
set search_path = pg_catalog, pg_temp
-- As the mirror converts, whatever the session has set.
set timezone = 'UTC'
set datestyle = 'ISO, MDY'
set intervalstyle = 'postgres'
set extra_float_digits = 1
set bytea_output = 'hex'
as $$
declare
  v_pair crossfade.pairs := crossfade_private.get_pair(pair);
  v_pieces jsonb := crossfade_private.run_pieces(v_pair, 'v1_to_v2');
  v_cursor crossfade_private.verify_cursors;
  v_boundary jsonb;
  v_mismatches bigint := 0;
begin
  if max_rows is null or max_rows not between 1 and 10000 then
    perform crossfade_private.fail(400, 'CF012', format('Invalid max_rows %s', max_rows),
      jsonb_build_object('max_rows', max_rows), 'Use 1 to 10000.');
  end if;
  -- Before the backfill has finished most rows are missing, and that is no news.
  if v_pair.stage not in ('dualwrite', 'shadow', 'live', 'rampdown')
    or v_pair.last_backfill_at is null or crossfade_private.release_reason(v_pair) is not null then
    return jsonb_build_object('pair', pair, 'state', 'waiting', 'mismatches', 0);
  end if;
  insert into crossfade_private.verify_cursors (pair) values (verify_some.pair)
  on conflict on constraint verify_cursors_pkey do nothing;
  select c.* into v_cursor from crossfade_private.verify_cursors c
  where c.pair = verify_some.pair for update skip locked;
  if not found then
    return jsonb_build_object('pair', pair, 'state', 'busy', 'mismatches', 0);
  end if;
  -- Null when there are fewer: the pass ends with them.
  v_boundary := (crossfade_private.next_keys(
    v_pieces, v_cursor.cursor_key, max_rows))[max_rows];
  v_mismatches := crossfade_private.record_mismatches(
    v_pair.name, null, v_pieces, v_cursor.cursor_key, v_boundary);
  update crossfade_private.verify_cursors c
  set cursor_key = v_boundary, rows_checked = c.rows_checked + max_rows,
    passes = c.passes + case when v_boundary is null then 1 else 0 end,
      checked_at = clock_timestamp()
  where c.pair = verify_some.pair
  returning * into v_cursor;
  return jsonb_build_object('pair', pair, 'state', 'running', 'mismatches', v_mismatches,
    'passes', v_cursor.passes, 'rows_checked', v_cursor.rows_checked);
end $$;

comment on function crossfade.verify_some is
  'Compare the next max_rows rows and go on there next time, round and round: {"pair", "state": running|waiting|busy, "mismatches", "passes", "rows_checked" (about)}. What differs after a second look under lock becomes an open mismatch, which blocks the next stage and feeds the monitor. Meant for a call every few seconds. CF001, CF012.';

-- runs/cron.sql -----------------------------------------------------------------------------------

-- Jobs of pg_cron. Nothing here needs it to be installed: it is found, and called, by name.

create or replace function crossfade_private.has_cron()
returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Looking up a name in a schema that one may not use is an error, so ask for the right first.
  return exists (
    select from pg_catalog.pg_namespace n
    where n.nspname = 'cron' and has_schema_privilege(n.oid, 'usage')
  ) and coalesce(
    has_function_privilege(to_regprocedure('cron.schedule(text,text,text)'), 'execute')
    and has_function_privilege(to_regprocedure('cron.unschedule(bigint)'), 'execute'), false);
end $$;

comment on function crossfade_private.has_cron is
  'Whether this role can schedule jobs of pg_cron (1.4 or later) in this database.';

create or replace function crossfade_private.drive_job(run bigint)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select 'crossfade_run_' || run;
$$;

comment on function crossfade_private.drive_job is 'Name of the pg_cron job that drives a run.';

create or replace function crossfade_private.unschedule_run(run bigint)
returns boolean
language plpgsql volatile
security definer -- pg_cron shows a job only to the role that scheduled it, the owner of drive_run
set search_path = pg_catalog, pg_temp
as $$
declare
  v_jobs bigint := 0;
begin
  if crossfade_private.has_cron() then
    execute 'select count(cron.unschedule(j.jobid)) from cron.job j where j.jobname = $1
      and j.username = current_user'
    into v_jobs using crossfade_private.drive_job(run);
  end if;
  return v_jobs > 0;
end $$;

comment on function crossfade_private.unschedule_run is
  'Remove the job of a run; false when there is none.';

create or replace function crossfade_private.on_run_over()
returns trigger
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'DELETE' or new.state in ('finished', 'cancelled') then
    perform crossfade_private.unschedule_run(old.id);
  end if;
  return null;
exception when others then
  -- Best effort: a run can be cancelled whatever pg_cron says; the job removes itself next time.
  raise warning 'crossfade: cannot unschedule run %: %', old.id, sqlerrm;
  return null;
end $$;

comment on function crossfade_private.on_run_over is
  'Trigger: a run that is over, or gone, leaves no job.';

create or replace trigger crossfade_after_over
after update of state or delete on crossfade.runs
for each row execute function crossfade_private.on_run_over();

-- runs/self_drive.sql -----------------------------------------------------------------------------

-- Self-drive: where pg_cron is installed, a job of it does the batches of a run, with no client.

create or replace function crossfade_private.note_drive(run bigint, reason text)
returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  -- The prefix tells our words from those of the person who resumed the run.
  update crossfade.runs r set reason = 'self-drive: ' || note_drive.reason
  where r.id = note_drive.run and r.state = 'running'
    and r.reason is distinct from 'self-drive: ' || note_drive.reason
    and (note_drive.reason is not null or r.reason like 'self-drive: %');
$$;

comment on function crossfade_private.note_drive is
  'Say in the run why nothing happens; null when something does again. Writes only what is new.';

create or replace function crossfade_private.drive_once(
  run bigint, started_at timestamptz, seconds integer
)
returns double precision
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_run crossfade.runs;
  v_batch jsonb;
  v_wait_s double precision := 0;
begin
  select r.* into v_run from crossfade.runs r where r.id = drive_once.run;
  if not found or v_run.state in ('finished', 'cancelled') then
    perform crossfade_private.unschedule_run(run);
    return null;
  end if;
  begin
    v_batch := case v_run.kind when 'backfill' then crossfade.backfill_batch(run)
      else crossfade.verify_batch(run) end;
    perform crossfade_private.note_drive(run, (v_batch ->> 'state') || ': '
      || (v_batch ->> 'reason'));
    v_wait_s := case when v_batch ->> 'state' in ('waiting', 'throttled') then 1
      else greatest((v_batch ->> 'wait_ms')::double precision / 1000,
        case when (v_batch ->> 'rows_read')::bigint = 0 then 0.2 else 0 end) end;
  exception when others then
    -- Deadlocks, locks, memory, connections: the next try may work, as for a client that drives.
    if not crossfade_private.is_transient(sqlstate) then
      perform crossfade.control_run(run, 'pause', format('self-drive: %s (%s)', sqlerrm, sqlstate));
      return null;
    end if;
    perform crossfade_private.note_drive(run, format('%s (%s)', sqlerrm, sqlstate));
    v_wait_s := 1;
  end;
  if v_batch ->> 'state' in ('finished', 'cancelled', 'paused')
    or clock_timestamp() >= started_at + make_interval(secs => seconds) then
    return null;
  end if;
  return v_wait_s;
end $$;

comment on function crossfade_private.drive_once is
  'Do one batch: seconds to wait before the next one, or null when this turn is over. An error that would come again pauses the run with the error as its reason; any other is noted there and tried again.';

create or replace function crossfade_private.drive_command(run bigint, seconds integer)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  -- A DO block and not a procedure: each batch has to be a transaction of its own, or locks would
  -- pile up and a crash undo the whole turn, and a procedure with a pinned search_path may not
  -- COMMIT. In the block every name is qualified, no operator is used, and all that decides is in
  -- drive_once.
  select format($command$do $drive$
declare
  v_started timestamptz := pg_catalog.clock_timestamp();
  v_wait_s double precision;
begin
  loop
    v_wait_s := crossfade_private.drive_once(%s, v_started, %s);
    commit;
    exit when v_wait_s is null;
    perform pg_catalog.pg_sleep(v_wait_s);
    commit; -- the next batch must not see with the eyes of before the wait
  end loop;
end $drive$;
$command$, run, seconds);
$$;

comment on function crossfade_private.drive_command is
  'What the job of a run executes: batches, each its own transaction, for about so many seconds. Runs as the role that scheduled it, the owner of drive_run. Outside a transaction only.';

create or replace function crossfade_private.schedule_run(run bigint)
returns text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_schedule text := '5 seconds';
begin
  begin
    execute 'select cron.schedule($1, $2, $3)'
    using crossfade_private.drive_job(run), v_schedule, crossfade_private.drive_command(run, 30);
  exception when invalid_parameter_value then
    -- Before 1.5 pg_cron knew only minutes: let each turn fill its minute.
    v_schedule := '* * * * *';
    execute 'select cron.schedule($1, $2, $3)'
    using crossfade_private.drive_job(run), v_schedule, crossfade_private.drive_command(run, 55);
  end;
  return v_schedule;
end $$;

comment on function crossfade_private.schedule_run is
  'Make the job of a run, or make it again; returns its schedule. pg_cron never runs a job beside itself, so a turn may be longer than the interval.';

create or replace function crossfade.drive_run(run bigint, enabled boolean default true)
returns jsonb
language plpgsql volatile
security definer -- the job must belong to the owner, who may run the batches
set search_path = pg_catalog, pg_temp
as $$
declare
  v_run crossfade.runs := crossfade_private.get_run(run);
  v_schedule text;
begin
  if enabled and not crossfade_private.has_cron() then
    perform crossfade_private.fail(409, 'CF018',
      format('Cannot drive run %s inside the database: pg_cron is not installed', run),
      jsonb_build_object('run', run),
      'Run: create extension pg_cron, or drive the run with the crossfade command.');
  end if;
  -- Not while somebody ends it: a job for a run that is over would be left.
  select r.* into v_run from crossfade.runs r where r.id = drive_run.run for update;
  if enabled and v_run.state not in ('running', 'paused') then
    perform crossfade_private.fail(409, 'CF010',
      format('Cannot drive run %s: it is %s', run, v_run.state),
      jsonb_build_object('run', run, 'state', v_run.state), 'Start a new run.');
  end if;
  if enabled then
    v_schedule := crossfade_private.schedule_run(run);
    perform crossfade_private.audit(v_run.kind || '.drive', v_run.pair, null, null,
      crossfade_private.run_json(run));
  elsif crossfade_private.unschedule_run(run) then
    perform crossfade_private.audit(v_run.kind || '.undrive', v_run.pair, null, null,
      crossfade_private.run_json(run));
  end if;
  return jsonb_build_object('run', crossfade_private.run_json(run), 'driven', enabled,
    'job', crossfade_private.drive_job(run), 'schedule', v_schedule,
    'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.drive_run is
  'Let a job of pg_cron do the batches of a backfill or verify run, or (enabled: false) no longer: {"run", "driven", "job", "schedule"}. The job belongs to the owner of crossfade, skips a paused run and goes when the run is over; crossfade.runs.reason says why it waits. Clients may work on the same run. Safe to repeat. CF009, CF010 when the run is over, CF018 without pg_cron.';

-- runs/plan.sql -----------------------------------------------------------------------------------

-- What going through the stages will do to a database, measured before anything is switched on.

create or replace function crossfade.sample_keys(
  pair text, side integer default 1, keys integer default 20
)
returns jsonb
language plpgsql volatile
security definer -- reads the owner's tables; only service_role may call it
set search_path = pg_catalog, pg_temp
-- As the mirror converts, whatever the session has set.
set timezone = 'UTC'
set datestyle = 'ISO, MDY'
set intervalstyle = 'postgres'
set extra_float_digits = 1
set bytea_output = 'hex'
as $$
declare
  v_pieces jsonb := crossfade_private.make_pieces(crossfade_private.get_pair(pair), side);
  v_rows double precision;
  v_keys jsonb;
begin
  if side not in (1, 2) or keys not between 1 and 1000 then
    perform crossfade_private.fail(400, 'CF012', format('Invalid side %s or keys %s', side, keys),
      jsonb_build_object('side', side, 'keys', keys), 'side is 1 or 2, keys 1 to 1000.');
  end if;
  select c.reltuples into v_rows from pg_catalog.pg_class c
  where c.oid = (v_pieces ->> 'source')::regclass;
  execute crossfade_private.render($sql$
    select coalesce(jsonb_agg(cf_q.key), '[]') from (
      select {skey_json_s} as key from {source} cf_s tablesample bernoulli ($1)
      order by random() limit $2) cf_q
  $sql$, v_pieces) into v_keys
  -- Four times as many as asked for, because the estimate of the rows may be old.
  using case when v_rows <= 4.0 * keys then 100 else 400.0 * keys / v_rows end, keys;
  return jsonb_build_object('keys', v_keys);
end $$;

comment on function crossfade.sample_keys is
  'Up to keys (1 to 1000) random keys of a side: {"keys": [...]}. Reads the whole table once. CF001, CF012.';

create or replace function crossfade_private.measure_copy(pieces jsonb, sample_rows integer)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_from timestamptz;
  v_rows bigint;
  v_ms double precision;
begin
  -- A temporary copy of the target: nothing is written to the owner's tables, and none of their
  -- triggers runs, whose effects (a request by HTTP) could not be taken back.
  execute format('create temporary table cf_plan (like %s including indexes including generated)
    on commit drop', pieces ->> 'target');
  v_from := clock_timestamp();
  execute crossfade_private.render($sql$
    insert into pg_temp.cf_plan ({target_columns}) overriding system value
    select {tcolumns_c}
    from (select cf_s.* from {source} cf_s order by {skey_s} limit $1) cf_n
    cross join lateral {convert} row(cf_n.*)::{source} {with} null::{target} {converted} cf_c
  $sql$, pieces) using sample_rows;
  get diagnostics v_rows = row_count;
  v_ms := extract(epoch from clock_timestamp() - v_from) * 1000;
  drop table pg_temp.cf_plan;
  return jsonb_build_object('rows', v_rows, 'elapsed_ms', round(v_ms::numeric, 1),
    'rows_per_s', case when v_rows > 0 then round((v_rows / greatest(v_ms, 0.001) * 1000)::numeric)
      end, 'error', null);
exception when others then
  return jsonb_build_object('rows', 0, 'elapsed_ms', null, 'rows_per_s', null,
    'error', format('%s: %s', sqlstate, sqlerrm));
end $$;

comment on function crossfade_private.measure_copy is
  'Convert some rows into a temporary copy of the target, with its indexes, and say how fast it was. Foreign keys, triggers and the log are not measured.';

create or replace function crossfade_private.plan_steps(pair crossfade.pairs)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_agg(jsonb_build_object('step', s.step, 'command', s.command, 'does', s.does,
    'lock', s.lock, 'held', s.held) order by s.n)
  from (values
    (1, 'dualwrite', format('crossfade stage set %s dualwrite', (pair).name),
      'updates rows of crossfade and crossfade_private; from then on each write is converted and written to the other table as well',
      'none on your tables', 'one short transaction'),
    (2, 'backfill', format('crossfade backfill run %s', (pair).name),
      format('in batches: insert into %s select ... from %s ... on conflict do nothing',
        (pair).v2_table, (pair).v1_table),
      format('ROW EXCLUSIVE on %s; FOR SHARE on each copied row of %s: writers of that row wait',
        (pair).v2_table, (pair).v1_table),
      'one batch, about 500 ms'),
    (3, 'shadow', format('crossfade stage set %s shadow', (pair).name),
      'updates rows of crossfade', 'none on your tables', 'one short transaction'),
    (4, 'verify', format('crossfade verify run %s', (pair).name),
      'in batches: joins both tables through the converters',
      'ACCESS SHARE; a row that differs is locked for a moment to look again',
      'one batch, about 500 ms'),
    (5, 'live', format('crossfade stage set %s live', (pair).name),
      'updates rows of crossfade', 'none on your tables', 'one short transaction'),
    (6, 'rampdown', format('crossfade stage set %s rampdown', (pair).name),
      'updates rows of crossfade; a sequence of V2''s own is set past every key; who writes V1 is noted from now on',
      'none on your tables', 'one short transaction'),
    (7, 'complete', format('crossfade stage set %s complete --confirm', (pair).name),
      format(
        '%s becomes a read-only archive: every write to it is refused (CF_ARCHIVED). Nothing is dropped. Sequences that V2''s defaults need are no longer V1''s. V2 is no longer mirrored, so the way back needs a reverse backfill and a clean verify',
        (pair).v1_table),
      format('SHARE ROW EXCLUSIVE on %s: waits for its writers, at most 2 s%s', (pair).v1_table,
        (select '; ACCESS EXCLUSIVE on ' || (pair).v2_table
        from crossfade_private.key_sequences(pair) k
        cross join lateral crossfade_private.sequence_owner(k.sequence_2) o
        where o.is_identity and o.tab = ((pair).v1_table)::regclass limit 1)),
      'one short transaction'),
    (8, 'retired', format('crossfade stage set %s retired', (pair).name),
      format(
        'where clients still use it: %s becomes a view over version 2, which they read and write as the table; the table is kept as %s',
        coalesce((pair).v1_view, (pair).v1_table),
        crossfade_private.beside_name(coalesce((pair).v1_view, (pair).v1_table), '_archive')),
      format('ACCESS EXCLUSIVE on %s: waits 0.3 s for it at a time, at most 2 s',
        coalesce((pair).v1_view, (pair).v1_table)),
      'milliseconds')
  ) s(n, step, command, does, lock, held);
$$;

comment on function crossfade_private.plan_steps is
  'The steps of a migration: what each runs, and what it locks for how long.';

create or replace function crossfade_private.plan_sql(pair crossfade.pairs)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'backfill', btrim(crossfade_private.render(crossfade_private.copy_sql(
      '($1 is null or ({skey_s}) > ({skey_1})) and ({skey_s}) <= ({skey_2})'),
      crossfade_private.make_pieces(pair, 1))),
    'triggers', (
      select coalesce(jsonb_agg(pg_get_triggerdef(g.oid) order by g.tgrelid, g.tgname), '[]')
      from pg_catalog.pg_trigger g join pg_catalog.pg_proc p on p.oid = g.tgfoid
      where g.tgrelid in (((pair).v1_table)::regclass, ((pair).v2_table)::regclass)
        and p.pronamespace = 'crossfade_private'::regnamespace),
    'trigger_functions', (
      select coalesce(jsonb_agg(pg_get_functiondef(f.tgfoid) order by f.tgfoid::text), '[]')
      from (
        select distinct g.tgfoid from pg_catalog.pg_trigger g
        join pg_catalog.pg_proc p on p.oid = g.tgfoid
        where g.tgrelid in (((pair).v1_table)::regclass, ((pair).v2_table)::regclass)
          and p.pronamespace = 'crossfade_private'::regnamespace) f));
$$;

comment on function crossfade_private.plan_sql is
  'The statements that will run: the backfill''s, and the triggers with their functions.';

create or replace function crossfade.plan_pair(pair text, sample_rows integer default 2000)
returns jsonb
language plpgsql volatile
security definer -- reads the owner's tables; only service_role may call it
set search_path = pg_catalog, pg_temp
-- As the mirror converts, whatever the session has set.
set timezone = 'UTC'
set datestyle = 'ISO, MDY'
set intervalstyle = 'postgres'
set extra_float_digits = 1
set bytea_output = 'hex'
as $$
declare
  v_pair crossfade.pairs := crossfade_private.get_pair(pair);
  v_measured jsonb;
begin
  if sample_rows not between 1 and 100000 then
    perform crossfade_private.fail(400, 'CF012', format('Invalid sample_rows %s', sample_rows),
      jsonb_build_object('sample_rows', sample_rows), 'It is 1 to 100000.');
  end if;
  v_measured := crossfade_private.measure_copy(
    crossfade_private.make_pieces(v_pair, 1), sample_rows);
  return jsonb_build_object(
    'pair', v_pair.name, 'stage', v_pair.stage,
    'problems', (select coalesce(jsonb_agg(p), '[]')
      from crossfade_private.registration_problems(v_pair) p),
    'warnings', crossfade_private.pair_warnings(v_pair),
    'dependents', (
      select coalesce(jsonb_agg(to_jsonb(d) - 'id'), '[]')
      from crossfade_private.v1_dependents(v_pair) d),
    'tables', (
      select jsonb_agg(jsonb_build_object('side', t.side, 'table', t.name)
        || crossfade_private.table_hindrances(t.name::regclass)
        || crossfade_private.table_size(t.name::regclass) order by t.side)
      from (values (1, v_pair.v1_table), (2, v_pair.v2_table)) t(side, name)),
    -- A backfill waits for whoever was writing when mirroring began.
    'oldest_transaction_s', (
      select round(max(extract(epoch from clock_timestamp() - a.xact_start)))
      from pg_catalog.pg_stat_activity a
      where a.backend_xid is not null and a.pid <> pg_backend_pid()),
    'measured', v_measured,
    'steps', crossfade_private.plan_steps(v_pair), 'sql', crossfade_private.plan_sql(v_pair));
end $$;

comment on function crossfade.plan_pair is
  'What taking a pair through the stages will do: steps with their locks, the SQL, triggers and policies in the way, what depends on V1, sizes, and the speed of converting sample_rows rows (1 to 100000) into a temporary table. Changes nothing. CF001, CF012.';

-- health/request_checks.sql -----------------------------------------------------------------------

-- What a report of requests must be, and its parts as rows.

create or replace function crossfade_private.latency_bucket(latency_ms numeric)
returns smallint
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
  -- The tiny addition keeps exact powers of two from falling one bucket short.
  select case when latency_bucket.latency_ms < 1 then 0
    else least(floor(4 * ln(l.ms) / ln(2::double precision) + 1e-9) + 1, 79)
  end::smallint
  from (select least(latency_bucket.latency_ms, 1e9)::double precision as ms) l;
$$;

comment on function crossfade_private.latency_bucket is
  'Histogram bucket of a latency in ms, 0 to 79.';

create or replace function crossfade_private.check_requests(batch jsonb)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_bad record;
  v_value jsonb;
begin
  if jsonb_typeof(batch) is distinct from 'array' or jsonb_array_length(batch) > 10000 then
    perform crossfade_private.fail(
      400, 'CF012', 'Cannot record requests: batch must be a JSON array of at most 10000 events',
      jsonb_build_object('field', 'batch'));
  end if;
  select e.n - 1 as place, e.event, f.field into v_bad
  from jsonb_array_elements(batch) with ordinality e(event, n)
  cross join lateral (
    values
    (1, 'event', jsonb_typeof(event) = 'object'),
    (2, 'pair', jsonb_typeof(event -> 'pair') = 'string'),
    (3, 'backend_version', jsonb_typeof(event -> 'backend_version') = 'number'
      and event ->> 'backend_version' in ('1', '2')),
    (4, 'wire_version', jsonb_typeof(event -> 'wire_version') = 'number'
      and event ->> 'wire_version' in ('1', '2')),
    (5, 'flag_set', jsonb_typeof(coalesce(event -> 'flag_set', 'null')) in ('string', 'null')
      and length(coalesce(event ->> 'flag_set', '')) <= 200),
    (6, 'outcome', event ->> 'outcome'
      in ('ok', 'error', 'fallback', 'client_error', 'shadow_match', 'shadow_mismatch')),
    (7, 'latency_ms', case when jsonb_typeof(event -> 'latency_ms') = 'number'
      then (event ->> 'latency_ms')::numeric >= 0 end),
    (8, 'flags_version', case jsonb_typeof(coalesce(event -> 'flags_version', 'null'))
      when 'null' then true when 'number' then (event ->> 'flags_version') ~ '^[0-9]{1,18}$' end),
    (9, 'count', case jsonb_typeof(coalesce(event -> 'count', 'null'))
      when 'null' then true when 'number' then (event ->> 'count') ~ '^[1-9][0-9]{0,8}$' end),
    (10, 'memory_bytes', case jsonb_typeof(coalesce(event -> 'memory_bytes', 'null'))
      when 'null' then true
      when 'number' then (event ->> 'memory_bytes') ~ '^[1-9][0-9]{0,15}$' end)
  ) as f (place, field, valid)
  where f.valid is not true
  order by e.n, f.place
  limit 1;
  if found then
    v_value := case v_bad.field when 'event' then v_bad.event else v_bad.event -> v_bad.field end;
    perform crossfade_private.fail(
      400, 'CF012',
      format('Cannot record requests: event %s has the invalid %s %s', v_bad.place, v_bad.field,
        left(coalesce(v_value, 'null')::text, 100)),
      jsonb_build_object('event', v_bad.place, 'field', v_bad.field, 'value', v_value));
  end if;
end $$;

comment on function crossfade_private.check_requests is
  'Refuse a batch with an event that cannot be counted, naming the first one (from 0), its field and value. CF012.';

create or replace function crossfade_private.request_events(batch jsonb)
returns table (
  place bigint, pair text, step bigint, in_streak boolean, backend_version smallint,
  wire_version smallint, flag_set text, outcome text, latency_bucket smallint, requests bigint
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  select e.n, p.name, p.step - case when v.is_current then 0 else 1 end,
    v.is_current and v.backend_version = 2 and v.outcome in ('ok', 'error', 'fallback'),
    v.backend_version, (e.event ->> 'wire_version')::smallint,
    coalesce(e.event ->> 'flag_set', ''), v.outcome,
    crossfade_private.latency_bucket((e.event ->> 'latency_ms')::numeric),
    coalesce((e.event ->> 'count')::bigint, 1)
  from jsonb_array_elements(batch) with ordinality e(event, n)
  join crossfade.pairs p on p.name = e.event ->> 'pair'
  cross join lateral (
    select e.event ->> 'outcome' as outcome,
      -- A fallback is a failure of V2 that V1 answered, whichever version the caller names.
      case e.event ->> 'outcome' when 'fallback' then 2
        else (e.event ->> 'backend_version')::integer end::smallint as backend_version,
      -- Decided before the step began: it says nothing about the step.
      coalesce((e.event ->> 'flags_version')::bigint >= p.step_flags_version, true) as is_current
  ) v;
end $$;

comment on function crossfade_private.request_events is
  'The events of a checked batch as rows: place from 1; step is the pair''s, or the one before for an event whose flags_version is older than the step; in_streak: it continues or ends the streak of V2 errors.';

-- health/requests.sql -----------------------------------------------------------------------------

-- Recording requests.

create or replace function crossfade_private.record_streak(
  pair text, step bigint, has_ok boolean, errors bigint
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  -- The usual batch is all ok and there is no streak: take no lock, or every caller would queue
  -- here. A streak that starts at this moment in another session is ended by the next batch.
  if errors = 0 and not exists (
    select from crossfade_private.request_streaks s
    where s.pair = record_streak.pair and s.errors > 0) then
    return;
  end if;
  insert into crossfade_private.request_streaks as s (pair, step, errors)
  values (record_streak.pair, record_streak.step, record_streak.errors)
  on conflict on constraint request_streaks_pkey do update
  set step = excluded.step,
    errors = excluded.errors
      + case when record_streak.has_ok or s.step <> excluded.step then 0 else s.errors end;
end $$;

comment on function crossfade_private.record_streak is
  'Carry the streak of consecutive V2 errors of a pair on. has_ok: the batch has an ok, so that only errors, those after the last ok, count. A new step starts at 0.';

create or replace function crossfade_private.record_memory(batch jsonb)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into crossfade.memory_reports (pair, used_bytes)
  select e.value ->> 'pair', (e.value ->> 'memory_bytes')::bigint
  from jsonb_array_elements(batch) e
  where e.value ? 'memory_bytes' and jsonb_typeof(e.value -> 'memory_bytes') = 'number';
  if found then
    delete from crossfade.memory_reports m
    where m.at < clock_timestamp() - interval '1 hour'
      and m.pair in (select e.value ->> 'pair' from jsonb_array_elements(batch) e);
  end if;
end $$;

comment on function crossfade_private.record_memory is
  'Keep the memory that events of a checked batch report, and forget what is older than an hour.';

create or replace function crossfade.record_requests(batch jsonb)
returns jsonb
language plpgsql volatile
-- Definer: API roles hold no right on the tables it writes.
security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_recorded bigint;
  v_streaks jsonb;
begin
  perform crossfade_private.check_requests(batch);
  perform crossfade_private.get_pair(e.pair)
  from (select distinct a.value ->> 'pair' as pair from jsonb_array_elements(batch) a) e;

  with e as materialized (
    select r.*, max(r.place) filter (where r.outcome = 'ok' and r.in_streak)
      over (partition by r.pair) as last_ok
    from crossfade_private.request_events(batch) r
  ),
  counted as (
    insert into crossfade.request_minutes as m (
      pair, minute, step, backend_version, wire_version, flag_set, outcome, latency_bucket,
      requests, last_at)
    select e.pair, date_trunc('minute', clock_timestamp()), e.step, e.backend_version,
      e.wire_version, e.flag_set, e.outcome, e.latency_bucket, sum(e.requests), clock_timestamp()
    from e
    group by e.pair, e.step, e.backend_version, e.wire_version, e.flag_set, e.outcome,
      e.latency_bucket
    -- Order matters: two callers that lock the same rows in one order cannot deadlock.
    order by e.pair, e.step, e.backend_version, e.wire_version, e.flag_set, e.outcome,
      e.latency_bucket
    on conflict (
      pair, minute, step, backend_version, wire_version, flag_set, outcome, latency_bucket)
    do update set requests = m.requests + excluded.requests, last_at = excluded.last_at
  ),
  streaks as (
    select e.pair, e.step, bool_or(e.last_ok is not null) as has_ok,
      coalesce(sum(e.requests) filter (where e.place > coalesce(e.last_ok, 0)), 0) as errors
    from e where e.in_streak
    group by e.pair, e.step
  )
  select (select coalesce(sum(e.requests), 0) from e),
    (select coalesce(jsonb_agg(to_jsonb(s) order by s.pair), '[]') from streaks s)
  into v_recorded, v_streaks;

  perform crossfade_private.record_streak(s.pair, s.step, s.has_ok, s.errors)
  from jsonb_to_recordset(v_streaks) s(pair text, step bigint, has_ok boolean, errors bigint);
  perform crossfade_private.record_memory(batch);
  return jsonb_build_object('recorded', v_recorded, 'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.record_requests is
  'Count requests. batch: array of {"pair", "backend_version", "wire_version", "outcome", "latency_ms", "flag_set"?, "flags_version"?, "count"?, "memory_bytes"?: what the isolate uses now}, oldest first; all or nothing. Safe for any number of callers at once; holds row locks on the counters until commit. Returns {"recorded": requests, "flags_version"}. CF001 unknown pair, CF012 names the event, field and value.';

-- health/windows.sql ------------------------------------------------------------------------------

-- The requests of a stretch of time.

create or replace function crossfade_private.backend_window(
  pair text, step bigint, backend_version integer, since timestamptz
)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with m as (
    select r.outcome, r.latency_bucket, r.requests from crossfade.request_minutes r
    where r.pair = backend_window.pair and r.minute >= backend_window.since
      and r.step = backend_window.step and r.backend_version = backend_window.backend_version
  ),
  n as (
    select
      coalesce(sum(m.requests) filter (where m.outcome in ('ok', 'error', 'fallback')), 0)
        as requests,
      coalesce(sum(m.requests) filter (where m.outcome in ('error', 'fallback')), 0) as errors,
      coalesce(sum(m.requests) filter (where m.outcome = 'client_error'), 0) as client_errors
    from m
  ),
  h as (
    select array_agg(coalesce(c.requests, 0)::bigint order by b) as histogram
    from generate_series(0, 79) b
    left join (
      select m.latency_bucket, sum(m.requests) as requests from m
      where m.outcome in ('ok', 'error', 'fallback') group by m.latency_bucket
    ) c on c.latency_bucket = b
  )
  select jsonb_build_object(
    'requests', n.requests, 'errors', n.errors, 'client_errors', n.client_errors,
    'error_rate', round(n.errors / nullif(n.requests, 0), 6),
    'p50_ms', round(crossfade_private.quantile_ms(h.histogram, 0.5)::numeric, 1),
    'p95_ms', round(crossfade_private.quantile_ms(h.histogram, 0.95)::numeric, 1))
  from n, h;
$$;

comment on function crossfade_private.backend_window is
  'Requests of one backend in a step since a minute: {"requests": ok + errors, "errors": error + fallback, "client_errors", "error_rate", "p50_ms", "p95_ms"}; the last three are null without requests.';

create or replace function crossfade_private.backend_counts(
  pair text, step bigint, backend_version integer, since timestamptz
)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'requests', coalesce(sum(r.requests), 0),
    'errors', coalesce(sum(r.requests) filter (where r.outcome <> 'ok'), 0))
  from crossfade.request_minutes r
  where r.pair = backend_counts.pair and r.minute >= date_trunc('minute', backend_counts.since)
    and r.step = backend_counts.step and r.backend_version = backend_counts.backend_version
    and r.outcome in ('ok', 'error', 'fallback');
$$;

comment on function crossfade_private.backend_counts is
  'Requests and errors of one backend in a step, without latencies: cheap enough for weeks.';

create or replace function crossfade_private.window_start(
  pair text, step bigint, step_started_at timestamptz
)
returns timestamptz
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with s as (
    select now() - crossfade_private.setting_number('health_window_s') * interval '1 s' as usual,
      now() - crossfade_private.setting_number('health_window_max_s') * interval '1 s' as longest
  ),
  v2 as (
    select r.minute, sum(sum(r.requests)) over (order by r.minute desc) as upto
    from crossfade.request_minutes r
    where r.pair = window_start.pair and r.step = window_start.step and r.backend_version = 2
      and r.outcome in ('ok', 'error', 'fallback') and r.minute >= (select s.longest from s)
    group by r.minute
  )
  select date_trunc('minute', greatest(
    window_start.step_started_at,
    s.longest,
    least(
      s.usual,
      -- Too few V2 requests in the whole step: then all of it.
      coalesce(
        (select max(v2.minute) from v2
         where v2.upto >= crossfade_private.setting_number('health_window_requests')),
        '-infinity'))))
  from s;
$$;

comment on function crossfade_private.window_start is
  'First minute of the window: the larger of the last 5 min and the last 50 V2 requests, within the step and the last 60 min (settings health_window_*).';

-- health/writes.sql -------------------------------------------------------------------------------

-- Writes of clients, counted by the mirror itself: evidence also where no edge function reports.

create or replace function crossfade_private.unread_writes(pair text)
returns table (side smallint, source text, value bigint, statements bigint)
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  -- Less than was read: the server crashed, and it began anew.
  select c.side::smallint, c.source, v.value,
    case when v.value < coalesce(w.counted, 0) then v.value else v.value - coalesce(w.counted, 0)
      end
  from crossfade_private.counters(pair) c
  cross join lateral (
    select coalesce(pg_sequence_last_value(to_regclass(c.name)), 0) as value
  ) v
  left join crossfade_private.write_counters w
    on w.pair = unread_writes.pair and w.side = c.side and w.source = c.source;
$$;

comment on function crossfade_private.unread_writes is
  'What the counters of a pair say by now, and how many statements of it are not in write_minutes yet.';

create or replace function crossfade_private.sample_writes(pair text)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (select from crossfade_private.write_counters w
    where w.pair = sample_writes.pair) then
    insert into crossfade_private.write_counters (pair, side, source)
    select sample_writes.pair, c.side, c.source from crossfade_private.counters(pair) c
    on conflict do nothing;
  end if;
  -- Whoever holds them reads them now: a rollback must not wait for that.
  perform from crossfade_private.write_counters w where w.pair = sample_writes.pair
  for update nowait;
  with read as (
    update crossfade_private.write_counters w set counted = u.value
    from crossfade_private.unread_writes(sample_writes.pair) u
    where w.pair = sample_writes.pair and w.side = u.side and w.source = u.source
      and u.value <> w.counted
    returning u.side, u.source, u.statements
  )
  insert into crossfade.write_minutes as m (pair, minute, step, side, source, statements)
  select sample_writes.pair, date_trunc('minute', clock_timestamp()), p.step, r.side, r.source,
    r.statements
  from read r join crossfade.pairs p on p.name = sample_writes.pair
  where r.statements > 0
  on conflict on constraint write_minutes_pkey
  do update set statements = m.statements + excluded.statements;
exception when lock_not_available then
  null;
end $$;

comment on function crossfade_private.sample_writes is
  'Add what was written since the last time to write_minutes, for the step the pair is in. Locks the pair''s rows of write_counters; does nothing while somebody else has them.';

create or replace function crossfade_private.write_counts(pair text, since timestamptz, step bigint)
returns jsonb
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_object_agg(q.side::text, q.sources) from (
    select u.side, jsonb_object_agg(u.source, coalesce(m.statements, 0)
      + case when (write_counts.step = p.step) is not false then u.statements else 0 end) as sources
    from crossfade_private.unread_writes(pair) u
    join crossfade.pairs p on p.name = write_counts.pair
    left join lateral (
      select sum(w.statements) as statements from crossfade.write_minutes w
      where w.pair = p.name and w.side = u.side and w.source = u.source
        and w.minute >= date_trunc('minute', write_counts.since)
        and (write_counts.step = w.step) is not false
    ) m on true
    group by u.side
  ) q;
$$;

comment on function crossfade_private.write_counts is
  'Statements since the minute of a moment, of one step or (null) of all: {"1": {"user", "service", "direct"}, "2"}.';

create or replace function crossfade_private.step_evidence(pair crossfade.pairs)
returns table (kind text, v2 bigint, failed bigint)
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select case when r.is_any then 'requests' else 'writes' end,
    case when r.is_any then (
      select coalesce(sum(m.requests), 0) from crossfade.request_minutes m
      where m.pair = p.name and m.step = p.step
        and m.minute >= date_trunc('minute', p.step_started_at)
        and m.backend_version = 2 and m.outcome in ('ok', 'error', 'fallback'))
      else (crossfade_private.write_counts(p.name, p.step_started_at, p.step)
        #>> '{2,user}')::numeric end::bigint,
    case when not r.is_any then (
      select count(*) from crossfade.mirror_failures f
      where f.pair = p.name and f.written_side = 2 and f.at >= p.step_started_at) end
  from (select (step_evidence.pair).*) p
  cross join lateral (
    -- Ever: a function that has fallen silent is no reason to judge by less.
    select exists (select from crossfade.request_minutes m where m.pair = p.name) as is_any
  ) r;
$$;

comment on function crossfade_private.step_evidence is
  'What is known of version 2 in the whole step: requests that functions recorded, or, where none has ever reported, the writes of its users (kind writes), and how many writes of version 2 did not reach version 1.';

create or replace function crossfade.pair_writes(pair text, minutes integer default 60)
returns jsonb
language plpgsql volatile
security definer -- API roles hold no right on crossfade_private
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pair crossfade.pairs := crossfade_private.get_pair(pair);
  v_since timestamptz;
begin
  if coalesce(minutes, 0) not between 1 and 43200 then
    perform crossfade_private.fail(400, 'CF012', format('Invalid minutes %s', minutes),
      jsonb_build_object('minutes', minutes), 'minutes is 1 to 43200 (30 days).');
  end if;
  v_since := date_trunc('minute', clock_timestamp() - make_interval(mins => minutes));
  perform crossfade_private.sample_writes(pair);
  return jsonb_build_object('pair', v_pair.name, 'stage', v_pair.stage, 'since', v_since,
    'sides', crossfade_private.write_counts(pair, v_since, null),
    'minutes', (
      select coalesce(jsonb_agg(jsonb_build_object('minute', m.minute, 'side', m.side,
        'source', m.source, 'statements', m.statements)
        order by m.minute, m.side, m.source), '[]')
      from (
        select w.minute, w.side, w.source, sum(w.statements) as statements
        from crossfade.write_minutes w
        where w.pair = pair_writes.pair and w.minute >= v_since
        group by w.minute, w.side, w.source
      ) m),
    'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.pair_writes is
  'Statements that clients sent to either table in the last minutes (1 to 43200), counted by the mirror: {"pair", "stage", "since", "sides": {"1": {"user", "service", "direct"}, "2"}, "minutes": [{"minute", "side", "source", "statements"}] oldest first}. Nothing is counted in stage off, and V2 is not in complete. Reads the counters first: locks the pair''s rows of write_counters. CF001, CF012.';

-- health/samples.sql ------------------------------------------------------------------------------

-- What the health rules look at. The rules themselves are in the control plane.

create or replace function crossfade_private.engaged_fences(pair text)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_agg(k.name order by k.name), '[]')
  from crossfade.kill_switches k
  where k.engaged and k.fences
    and (k.overrides_all or coalesce(k.pair = engaged_fences.pair, true));
$$;

comment on function crossfade_private.engaged_fences is
  'Names of the engaged kill switches that keep backend 2 from serving a pair.';

create or replace function crossfade_private.health_inputs(pair text)
returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return jsonb_build_object(
    'memory_bytes', (
      select coalesce(jsonb_agg(m.used_bytes order by m.id desc), '[]')
      from (
        -- Of this step: what made the one before go back must not make this one go back again.
        select r.id, r.used_bytes from crossfade.memory_reports r
        join crossfade.pairs p on p.name = r.pair and r.at >= p.step_started_at
        where r.pair = health_inputs.pair and r.at > clock_timestamp()
          - crossfade_private.setting_number('r6_window_s') * interval '1 s'
        order by r.id desc limit 100
      ) m),
    'baseline', (
      select to_jsonb(b) - 'pair' from crossfade.baselines b where b.pair = health_inputs.pair),
    'heartbeat_at', (select m.heartbeat_at from crossfade.monitors m),
    'engaged', crossfade_private.engaged_fences(health_inputs.pair),
    'lost_rows', (
      select count(*) from crossfade.mismatches x
      where x.pair = health_inputs.pair and x.resolved_at is null and x.kind <> 'different'),
    'checked', (
      select crossfade_private.run_json(r.id) from crossfade.runs r
      where r.pair = health_inputs.pair and r.kind = 'verify' order by r.id desc limit 1),
    'rollout', (
      select jsonb_build_object('id', r.id, 'plan', r.plan ->> 'name', 'state', r.state,
        'reason', r.reason, 'changed_by', r.changed_by)
      from crossfade.rollouts r
      where r.pair = health_inputs.pair and r.state not in ('aborted', 'finished')));
end $$;

comment on function crossfade_private.health_inputs is
  'The part of a health sample that is not about requests.';

create or replace function crossfade.health_sample(pair text)
returns jsonb
language plpgsql stable
-- Definer: API roles hold no right on crossfade_private.
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pair crossfade.pairs := crossfade_private.get_pair(pair);
  v_since timestamptz := crossfade_private.window_start(
    v_pair.name, v_pair.step, v_pair.step_started_at);
  v_recent timestamptz := date_trunc('minute', greatest(v_pair.step_started_at,
    now() - crossfade_private.setting_number('health_window_s') * interval '1 s'));
begin
  return (
    select jsonb_build_object(
      'pair', v_pair.name, 'at', clock_timestamp(), 'stage', v_pair.stage,
      'percentage', coalesce(
        (select c.percentage from crossfade.cohorts c where c.pair = v_pair.name), 0),
      'step', v_pair.step, 'step_started_at', v_pair.step_started_at,
      'latched', v_pair.latched_at is not null, 'window_from', v_since,
      'backends', (
        select jsonb_object_agg(b,
          crossfade_private.backend_window(v_pair.name, v_pair.step, b, v_since)
          || jsonb_build_object('recent',
            crossfade_private.backend_window(v_pair.name, v_pair.step, b, v_recent),
            'whole', crossfade_private.backend_counts(
              v_pair.name, v_pair.step, b, v_pair.step_started_at)))
        from generate_series(1, 2) b),
      'streak', coalesce((
        select s.errors from crossfade_private.request_streaks s
        where s.pair = v_pair.name and s.step = v_pair.step), 0),
      -- Not through pair_status: its blockers may fail when a table has gone, and this must not.
      'open_failures', (
        select count(*) from crossfade.mirror_failures f
        where f.pair = v_pair.name and f.resolved_at is null),
      'open_mismatches', (
        select count(*) from crossfade.mismatches x
        where x.pair = v_pair.name and x.resolved_at is null),
      'drift_count', (select count(*) from crossfade.mirror_failures f where f.pair = v_pair.name),
      'runs', (
        select coalesce(jsonb_agg(crossfade_private.run_json(r.id) order by r.id), '[]')
        from crossfade.runs r where r.pair = v_pair.name and r.state in ('running', 'paused')),
      'shadow', (
        select jsonb_build_object('compared', coalesce(sum(r.requests), 0),
          'mismatched', coalesce(sum(r.requests) filter (where r.outcome = 'shadow_mismatch'), 0))
        from crossfade.request_minutes r
        where r.pair = v_pair.name and r.step = v_pair.step
          and r.outcome in ('shadow_match', 'shadow_mismatch')
          and r.minute >= date_trunc('minute', v_pair.step_started_at)),
      'evidence', (select to_jsonb(e) from crossfade_private.step_evidence(v_pair) e),
      'newest_request_at', (
        select max(r.last_at) from crossfade.request_minutes r
        where r.pair = v_pair.name and r.minute >= now() - interval '1 day'),
      'flags_version', crossfade.flags_version())
      || crossfade_private.health_inputs(v_pair.name));
end $$;

comment on function crossfade.health_sample is
  'What the rules decide on, read at one moment, of the current step only: stage, percentage, "backends": {"1", "2"} each with requests, errors (error + fallback; client errors count in neither), error_rate, p50_ms, p95_ms and the same as "recent" (at most the last 5 min) and "whole" (counts of the whole step), streak of V2 errors now, open failures and mismatches, drift, shadow reads of the whole step, evidence of the whole step ({"kind": requests or, where no function reports, writes of V2 by users; "v2": how many; "failed": of the writes}), newest_request_at (of the last day), active runs, the last verify run (checked), lost_rows, memory_bytes of the last r6_window_s, baseline of V1, heartbeat_at of the monitor, engaged fences, rollout. Windows begin at a full minute. CF001.';

-- health/verdicts.sql -----------------------------------------------------------------------------

-- What the health rules said.

create or replace function crossfade.record_verdicts(pair text, verdicts jsonb)
returns jsonb
language plpgsql volatile
-- Definer: API roles hold no right on the table it writes.
security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_pair record := crossfade_private.get_pair(record_verdicts.pair);
  v_answer jsonb;
begin
  if jsonb_typeof(verdicts) is distinct from 'array' then
    perform crossfade_private.fail(
      400, 'CF012', 'Cannot record verdicts: verdicts must be a JSON array',
      jsonb_build_object('field', 'verdicts', 'value', verdicts));
  end if;
  perform crossfade_private.sample_writes(v_pair.name);
  with given as (
    select v.* from jsonb_to_recordset(verdicts) as v(
      rule text, verdict text, mode text, value double precision, n bigint, bound double precision,
      threshold double precision, window_s double precision, rule_version integer, details jsonb)
  ),
  stored as (
    insert into crossfade.verdicts (
      pair, rule, verdict, mode, value, n, bound, threshold, window_s, rule_version, details,
      breach_since)
    select v_pair.name, g.rule, g.verdict, coalesce(g.mode, 'enforce'), g.value, g.n, g.bound,
      g.threshold, g.window_s, coalesce(g.rule_version, 1), coalesce(g.details, '{}'),
      case when g.verdict in ('HOLD', 'FAIL') then coalesce(l.breach_since, clock_timestamp()) end
    from given g
    left join lateral (
      select o.breach_since from crossfade.verdicts o
      -- A breach of an earlier step says nothing about this one.
      where o.pair = v_pair.name and o.rule = g.rule and o.at >= v_pair.step_started_at
      order by o.id desc limit 1
    ) l on true
    returning id, rule, breach_since
  )
  select coalesce(jsonb_agg(
    jsonb_build_object('rule', s.rule, 'breach_since', s.breach_since) order by s.id), '[]')
  into v_answer
  from stored s;
  return jsonb_build_object('verdicts', v_answer);
exception when check_violation or not_null_violation or invalid_text_representation then
  perform crossfade_private.fail(
    400, 'CF012', format('Cannot record verdicts of "%s": %s', record_verdicts.pair, sqlerrm),
    jsonb_build_object('field', 'verdicts', 'value', verdicts));
end $$;

comment on function crossfade.record_verdicts is
  'Store one evaluation: array of {"rule", "verdict", "mode", "value", "n", "bound", "threshold", "window_s", "rule_version", "details"}. Returns {"verdicts": [{"rule", "breach_since"}]}: since when the rule has said HOLD or FAIL without a break in this step, else null. CF001, CF012.';

-- health/baselines.sql ----------------------------------------------------------------------------

-- How V1 answered before it was mirrored (R9).

create or replace function crossfade_private.keep_baseline()
returns trigger
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_window jsonb := crossfade_private.backend_window(old.name, old.step, 1,
    date_trunc('minute', greatest(old.step_started_at, now()
      - crossfade_private.setting_number('health_window_max_s') * interval '1 s')));
begin
  if (v_window ->> 'requests')::bigint < crossfade_private.setting_number('r9_min_requests') then
    return null;
  end if;
  insert into crossfade.baselines as b (pair, requests, p50_ms, p95_ms)
  values (new.name, (v_window ->> 'requests')::bigint, (v_window ->> 'p50_ms')::double precision,
    (v_window ->> 'p95_ms')::double precision)
  on conflict on constraint baselines_pkey do update
  set at = clock_timestamp(), requests = excluded.requests, p50_ms = excluded.p50_ms,
    p95_ms = excluded.p95_ms;
  return null;
end $$;

comment on function crossfade_private.keep_baseline is
  'Trigger: when mirroring begins, keep how backend 1 answered until then.';

create or replace trigger crossfade_after_mirrored
after update of stage on crossfade.pairs
for each row when (old.stage = 'off' and new.stage = 'dualwrite')
execute function crossfade_private.keep_baseline();

-- health/monitors.sql -----------------------------------------------------------------------------

-- Who watches (R12).

create or replace function crossfade.monitor_beat(
  holder text, lease_s numeric default null, release boolean default false
)
returns jsonb
language plpgsql volatile
security definer -- written by this function only
set search_path = pg_catalog, pg_temp
as $$
declare
  v_row crossfade.monitors;
  v_now timestamptz := clock_timestamp();
  v_lease_s numeric := coalesce(lease_s, crossfade_private.setting_number('monitor_lease_s'));
begin
  if coalesce(btrim(holder), '') = '' or v_lease_s not between 1 and 3600 then
    perform crossfade_private.fail(400, 'CF012', 'Cannot beat: holder or lease_s is invalid',
      jsonb_build_object('holder', holder, 'lease_s', lease_s), 'lease_s is 1 to 3600 seconds.');
  end if;
  -- The row lock makes one of several monitors the first.
  select m.* into v_row from crossfade.monitors m for update;
  if release then
    update crossfade.monitors m set holder = null, heartbeat_at = null, lease_until = null
    where m.holder = monitor_beat.holder returning m.* into v_row;
  elsif v_row.holder is null or v_row.holder = monitor_beat.holder or v_row.lease_until < v_now then
    update crossfade.monitors m
    set holder = monitor_beat.holder, heartbeat_at = v_now,
      lease_until = v_now + make_interval(secs => v_lease_s::double precision),
      generation = m.generation
        + case when m.holder is distinct from monitor_beat.holder then 1 else 0 end
    returning m.* into v_row;
  end if;
  return jsonb_build_object('held', not release and v_row.holder is not distinct from
    monitor_beat.holder, 'holder', v_row.holder, 'generation', v_row.generation,
    'heartbeat_at', v_row.heartbeat_at, 'lease_until', v_row.lease_until,
    'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.monitor_beat is
  'Say that a monitor lives. However many beat, one holds the lease (setting monitor_lease_s) and decides: {"held", "holder", "generation", "heartbeat_at", "lease_until", "flags_version"}. Another takes over when the lease has run out. release: stop holding it. CF012.';

-- health/judging.sql ------------------------------------------------------------------------------

-- The rules that the database judges by itself: R1, R1s, R1k and R12.

create or replace function crossfade_private.wilson_lower(
  hits bigint, n bigint, z double precision
)
returns double precision
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
  select case when wilson_lower.n = 0 then 0 else greatest(0, (
    r.rate + z * z / (2 * n) - z * sqrt(r.rate * (1 - r.rate) / n + z * z / (4.0 * n * n)))
    / (1 + z * z / n)) end
  from (select hits::double precision / nullif(n, 0) as rate) r;
$$;

comment on function crossfade_private.wilson_lower is
  'One-sided lower Wilson bound of the true rate; 0 without data.';

create or replace function crossfade_private.breach_since(
  rule text, sample jsonb, previous jsonb, settings jsonb
)
returns timestamptz
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  -- A breach last seen long ago, or in an earlier step, is over: it begins now.
  select coalesce(case
    when b.at < (sample ->> 'at')::timestamptz - make_interval(secs => greatest(120,
      4 * (settings ->> 'monitor_interval_s')::double precision)) then null
    when b.at < (sample ->> 'step_started_at')::timestamptz then null
    else (previous -> rule ->> 'since')::timestamptz end,
    (sample ->> 'at')::timestamptz)
  from (select (previous -> rule ->> 'at')::timestamptz as at) b;
$$;

comment on function crossfade_private.breach_since is
  'When the breach of a rule that is seen now began: as the verdict before says, or now.';

create or replace function crossfade_private.judge_error_rate(
  sample jsonb, previous jsonb, settings jsonb
)
returns table (
  rule text, verdict text, message text, value double precision, n bigint, bound double precision,
  threshold double precision, level text, since timestamptz, details jsonb
)
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  with q as (
    select coalesce((sample #>> '{backends,2,requests}')::bigint, 0) as n,
      coalesce((sample #>> '{backends,2,errors}')::bigint, 0) as k,
      coalesce((sample #>> '{backends,1,requests}')::bigint, 0) as n1,
      coalesce((sample #>> '{backends,1,errors}')::bigint, 0) as k1
  ),
  w as (
    select q.*, case when q.n = 0 then 0 else q.k::double precision / q.n end as rate,
      crossfade_private.wilson_lower(q.k, q.n, (settings ->> 'wilson_z')::double precision) as bound
    from q
  ),
  b as (
    select r.rule, r.threshold, r.level, r.hold_s, w.*, r.breach,
      r.breach and w.n1 >= (settings ->> 'r1_min_requests')::bigint
        and w.k1::double precision / nullif(w.n1, 0)
          >= w.rate - (settings ->> 'shared_cause_margin_rate')::double precision as shared,
      case when r.breach
        then crossfade_private.breach_since(r.rule, sample, previous, settings) end as since
    from w
    cross join lateral (
      values
      ('R1', (settings ->> 'r1_error_rate')::double precision, 'COMPLETE',
        (settings ->> 'r1_hold_s')::double precision,
        w.n >= (settings ->> 'r1_min_requests')::bigint
        and w.rate >= (settings ->> 'r1_error_rate')::double precision
        and w.bound >= (settings ->> 'r1_lower_bound_rate')::double precision),
      ('R1s', (settings ->> 'r1s_lower_bound_rate')::double precision, 'EMERGENCY', 0,
        w.n >= (settings ->> 'r1s_min_requests')::bigint
        and w.bound >= (settings ->> 'r1s_lower_bound_rate')::double precision)
    ) as r (rule, threshold, level, hold_s, breach)
  )
  select b.rule, case
      when not b.breach then 'PASS'
      when b.shared and settings ->> 'shared_cause' = 'suppress' then 'HOLD'
      when extract(epoch from (sample ->> 'at')::timestamptz - b.since) >= b.hold_s then 'FAIL'
      else 'HOLD' end,
    format('%s of %s V2 requests failed%s', b.k, b.n, case when b.shared then ', V1 as well'
      else '' end),
    b.rate, b.n, b.bound, b.threshold, b.level, b.since,
    jsonb_build_object('errors', b.k, 'shared_cause', coalesce(b.shared, false))
  from b;
$$;

comment on function crossfade_private.judge_error_rate is 'R1 and R1s, as the control plane has them.';

create or replace function crossfade_private.judge(sample jsonb, previous jsonb, settings jsonb)
returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  with v as (
    select * from crossfade_private.judge_error_rate(sample, previous, settings)
    union all
    select 'R1k', case when s.streak >= s.wanted then 'FAIL' else 'PASS' end,
      case when s.streak > 0 then format('the last %s V2 requests failed', s.streak)
        else 'the last V2 request worked' end,
      s.streak::double precision, s.streak, null, s.wanted::double precision, 'EMERGENCY',
      case when s.streak >= s.wanted
        then crossfade_private.breach_since('R1k', sample, previous, settings) end, '{}'
    from (select coalesce((sample ->> 'streak')::bigint, 0) as streak,
      (settings ->> 'r1k_streak')::bigint as wanted) s
    union all
    select 'R12', case when h.dead then 'HOLD' else 'PASS' end,
      case when h.age_s is null then 'no monitor runs'
        else format('the monitor was heard %s s ago', round(h.age_s::numeric)) end,
      h.age_s, null, null, h.limit_s, null,
      case when h.dead then crossfade_private.breach_since('R12', sample, previous, settings) end,
      jsonb_build_object('page', h.dead)
    from (
      select a.age_s, a.limit_s,
        -- Nobody ever started one: that is news only while a plan relies on it.
        coalesce(a.age_s > a.limit_s, sample #>> '{rollout,state}' = 'running', false) as dead
      from (
        select extract(epoch from (sample ->> 'at')::timestamptz
          - (sample ->> 'heartbeat_at')::timestamptz)::double precision as age_s,
          (settings ->> 'r12_dead_s')::double precision as limit_s
      ) a
    ) h
  )
  select jsonb_agg(jsonb_build_object(
    'rule', v.rule, 'verdict', v.verdict, 'mode', m.mode, 'value', v.value, 'n', v.n,
    'bound', v.bound, 'threshold', v.threshold, 'level', v.level,
    'window_s', extract(epoch from (sample ->> 'at')::timestamptz - coalesce(
      (sample ->> 'window_from')::timestamptz, (sample ->> 'at')::timestamptz
        - (settings ->> 'health_window_s')::double precision * interval '1 s')),
    'rule_version', settings -> 'rule_version',
    'details', v.details || jsonb_build_object('message', v.message, 'since', v.since))
    order by v.rule)
  from v
  cross join lateral (
    select coalesce(settings #>> array['rule_modes', v.rule], 'enforce') as mode
  ) m
  where m.mode <> 'off';
$$;

comment on function crossfade_private.judge is
  'Verdicts of R1, R1s, R1k and R12 on a health sample, equal to those of the control plane (tests/vectors/health_rules.json): rows for record_verdicts, with "level". previous: rule -> {"at", "since"} of the verdict before. settings: name -> value.';

-- health/hours.sql --------------------------------------------------------------------------------

-- Request counts by hour.

create or replace function crossfade_private.rolled_up_to()
returns timestamptz
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select r.upto from crossfade_private.rollup r;
$$;

comment on function crossfade_private.rolled_up_to is
  'Minutes before it are in request_hours; -infinity before the first roll-up.';

create or replace function crossfade_private.counted_pairs()
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- One index probe a pair: PostgreSQL has no skip scan for distinct.
  with recursive p (pair) as (
    select min(m.pair) from crossfade.request_minutes m
    union all
    select (select min(m.pair) from crossfade.request_minutes m where m.pair > p.pair)
    from p where p.pair is not null
  )
  select p.pair from p where p.pair is not null;
$$;

comment on function crossfade_private.counted_pairs is
  'Pairs that request_minutes knows, registered or not.';

create or replace function crossfade.roll_up_requests(max_hours integer default 24)
returns jsonb
language plpgsql volatile
-- Definer: API roles hold no right on the tables it writes.
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_from timestamptz;
  v_to timestamptz;
  -- A caller of record_requests that began before the hour ended commits long before that.
  v_end timestamptz := date_trunc('hour', clock_timestamp() - interval '10 minutes');
begin
  if max_hours is null or max_hours not between 1 and 744 then
    perform crossfade_private.fail(400, 'CF012', format('Invalid max_hours %s', max_hours),
      jsonb_build_object('max_hours', max_hours), 'Use 1 to 744.');
  end if;
  select r.upto into v_from from crossfade_private.rollup r for update skip locked;
  if not found then
    return jsonb_build_object('state', 'busy', 'upto', crossfade_private.rolled_up_to());
  end if;
  if v_from = '-infinity' then
    select date_trunc('hour', min(f.minute)) into v_from
    from crossfade_private.counted_pairs() p
    cross join lateral (
      select min(m.minute) as minute from crossfade.request_minutes m where m.pair = p.p
    ) f;
    v_from := coalesce(v_from, v_end);
  end if;
  v_to := least(v_from + make_interval(hours => max_hours), v_end);
  if v_to > v_from then
    with hours as (
      insert into crossfade.request_hours (
        pair, hour, backend_version, wire_version, outcome, latency_bucket, requests)
      select m.pair, date_trunc('hour', m.minute), m.backend_version, m.wire_version, m.outcome,
        m.latency_bucket, sum(m.requests)
      from crossfade_private.counted_pairs() p
      join crossfade.request_minutes m on m.pair = p.p and m.minute >= v_from and m.minute < v_to
      group by 1, 2, 3, 4, 5, 6
      returning *
    )
    insert into crossfade.request_totals as t (
      pair, backend_version, wire_version, outcome, latency_bucket, requests)
    select h.pair, h.backend_version, h.wire_version, h.outcome, h.latency_bucket, sum(h.requests)
    from hours h
    group by 1, 2, 3, 4, 5
    on conflict on constraint request_totals_pkey do update
    set requests = t.requests + excluded.requests;
  end if;
  update crossfade_private.rollup r set upto = greatest(v_to, v_from) where r.upto < v_end;
  return jsonb_build_object('state', case when v_to < v_end then 'running' else 'finished' end,
    'upto', crossfade_private.rolled_up_to());
end $$;

comment on function crossfade.roll_up_requests is
  'Sum the next max_hours hours that are over into request_hours: {"state": running (call again), finished or busy (another call is at it), "upto"}. Dashboard and metrics call it; nothing depends on it but the speed of long windows. CF012.';

-- health/points.sql -------------------------------------------------------------------------------

-- Requests as the points of a curve.

create or replace function crossfade_private.point_width_s(minutes integer)
returns integer
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
  select min(w.minutes) * 60
  from (values (1), (2), (5), (10), (15), (30), (60), (120), (240), (360), (720), (1440))
    as w (minutes)
  where ceil(point_width_s.minutes::numeric / w.minutes) <= 200;
$$;

comment on function crossfade_private.point_width_s is
  'Seconds of one point, so that a window has at most 200 points.';

create or replace function crossfade_private.request_points(
  pair text, since timestamptz, upto timestamptz, width_s integer
)
returns table (
  point integer, backend_version smallint, wire_version smallint, outcome text,
  latency_bucket smallint, requests numeric
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  -- Hours hold only whole hours; a narrower point needs minutes.
  v_hours timestamptz := case when width_s % 3600 = 0 and since = date_trunc('hour', since)
    then greatest(crossfade_private.rolled_up_to(), request_points.since)
    else request_points.since end;
begin
  return query
  select floor(extract(epoch from r.minute - request_points.since) / width_s)::integer,
    r.backend_version, r.wire_version, r.outcome, r.latency_bucket, sum(r.requests)
  from (
    select h.hour as minute, h.backend_version, h.wire_version, h.outcome, h.latency_bucket,
      h.requests
    from crossfade.request_hours h
    where h.pair = request_points.pair and h.hour >= request_points.since
      and h.hour < least(v_hours, request_points.upto)
    union all
    select m.minute, m.backend_version, m.wire_version, m.outcome, m.latency_bucket, m.requests
    from crossfade.request_minutes m
    where m.pair = request_points.pair and m.minute >= v_hours and m.minute < request_points.upto
  ) r
  group by 1, 2, 3, 4, 5;
end $$;

comment on function crossfade_private.request_points is
  'Requests of [since, upto) summed over points of width_s seconds, 0 first. Minutes and hours give the same.';

create or replace function crossfade_private.summed_points(
  pair text, since timestamptz, upto timestamptz, width_s integer
)
returns table (
  point integer, backend_version smallint, requests numeric, errors numeric, fallbacks numeric,
  client_errors numeric, p50_ms numeric, p95_ms numeric, p99_ms numeric
)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with r as materialized (
    select p.point, p.backend_version, p.outcome, p.latency_bucket, sum(p.requests) as requests
    from crossfade_private.request_points(
      summed_points.pair, summed_points.since, summed_points.upto, summed_points.width_s) p
    where p.outcome in ('ok', 'error', 'fallback', 'client_error')
    group by 1, 2, 3, 4
  ),
  n as (
    select r.point, r.backend_version,
      coalesce(sum(r.requests) filter (where r.outcome <> 'client_error'), 0) as requests,
      coalesce(sum(r.requests) filter (where r.outcome in ('error', 'fallback')), 0) as errors,
      coalesce(sum(r.requests) filter (where r.outcome = 'fallback'), 0) as fallbacks,
      coalesce(sum(r.requests) filter (where r.outcome = 'client_error'), 0) as client_errors
    from r group by 1, 2
  ),
  h as (
    select b.*, sum(b.n) over (partition by b.point, b.backend_version order by b.latency_bucket)
        as upto,
      sum(b.n) over (partition by b.point, b.backend_version) as total
    from (
      select r.point, r.backend_version, r.latency_bucket, sum(r.requests) as n
      from r where r.outcome <> 'client_error'
      group by 1, 2, 3
    ) b
  ),
  -- As quantile_ms, but for all points at once.
  q as (
    select h.point, h.backend_version, v.quantile, round((case when h.latency_bucket = 0
      then (h.total * v.quantile - h.upto + h.n) / h.n
      else power(2::double precision,
        ((h.latency_bucket - 1 + (h.total * v.quantile - h.upto + h.n) / h.n) / 4)
          ::double precision) end)::numeric, 1) as ms
    from h
    join (values (0.5), (0.95), (0.99)) as v (quantile)
      on h.upto >= h.total * v.quantile and h.upto - h.n < h.total * v.quantile
  )
  select n.point, n.backend_version, n.requests, n.errors, n.fallbacks, n.client_errors,
    max(q.ms) filter (where q.quantile = 0.5), max(q.ms) filter (where q.quantile = 0.95),
    max(q.ms) filter (where q.quantile = 0.99)
  from n
  left join q on q.point = n.point and q.backend_version = n.backend_version
  group by 1, 2, 3, 4, 5, 6;
$$;

comment on function crossfade_private.summed_points is
  'One row a point and backend that had requests. requests = ok + error + fallback; errors = error + fallback; fallbacks: V2 failed and V1 answered.';

-- health/traffic.sql ------------------------------------------------------------------------------

-- Requests over time for people: counts, error rates and latency quantiles by version.

create or replace function crossfade_private.traffic_window(
  pair text, since timestamptz, upto timestamptz
)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object('since', traffic_window.since, 'upto', traffic_window.upto,
    'backends', jsonb_object_agg(b.version::text, jsonb_build_object(
      'requests', coalesce(s.requests, 0), 'errors', coalesce(s.errors, 0),
      'fallbacks', coalesce(s.fallbacks, 0), 'client_errors', coalesce(s.client_errors, 0),
      'error_rate', round(s.errors / nullif(s.requests, 0), 6),
      'p50_ms', s.p50_ms, 'p95_ms', s.p95_ms, 'p99_ms', s.p99_ms)))
  from generate_series(1, 2) b (version)
  left join crossfade_private.summed_points(
    traffic_window.pair, traffic_window.since, traffic_window.upto, 2147482800) s
    on s.backend_version = b.version;
$$;

comment on function crossfade_private.traffic_window is
  'Both backends over one window, whatever the step: {"since", "upto", "backends": {"1", "2"}}; error_rate and latencies are null without requests.';

create or replace function crossfade_private.traffic_series(pair text, minutes integer)
returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_width_s integer := crossfade_private.point_width_s(minutes);
  v_points integer := ceil(minutes * 60.0 / v_width_s);
  v_upto timestamptz := to_timestamp(
    (floor(extract(epoch from now()) / v_width_s) + 1) * v_width_s);
  v_since timestamptz := v_upto - make_interval(secs => v_points * v_width_s);
begin
  return (
    with s as materialized (
      select * from crossfade_private.summed_points(pair, v_since, v_upto, v_width_s)
    ),
    w as materialized (
      select p.point, p.wire_version, sum(p.requests) as requests
      from crossfade_private.request_points(pair, v_since, v_upto, v_width_s) p
      where p.outcome in ('ok', 'error', 'fallback', 'client_error')
      group by 1, 2
    )
    select jsonb_build_object(
      'pair', pair, 'since', v_since, 'upto', v_upto, 'width_s', v_width_s, 'points', v_points,
      'backends', (
        select jsonb_object_agg(b.version::text, (
          select jsonb_build_object(
            'requests', jsonb_agg(coalesce(s.requests, 0) order by g.point),
            'errors', jsonb_agg(coalesce(s.errors, 0) order by g.point),
            'fallbacks', jsonb_agg(coalesce(s.fallbacks, 0) order by g.point),
            'client_errors', jsonb_agg(coalesce(s.client_errors, 0) order by g.point),
            'p50_ms', jsonb_agg(s.p50_ms order by g.point),
            'p95_ms', jsonb_agg(s.p95_ms order by g.point),
            'p99_ms', jsonb_agg(s.p99_ms order by g.point))
          from generate_series(0, v_points - 1) g (point)
          left join s on s.point = g.point and s.backend_version = b.version))
        from generate_series(1, 2) b (version)),
      'wires', (
        select jsonb_object_agg(v.version::text, (
          select jsonb_agg(coalesce(w.requests, 0) order by g.point)
          from generate_series(0, v_points - 1) g (point)
          left join w on w.point = g.point and w.wire_version = v.version))
        from generate_series(1, 2) v (version)),
      'total', crossfade_private.traffic_window(pair, v_since, v_upto)));
end $$;

comment on function crossfade_private.traffic_series is
  'The last minutes of a pair in at most 200 points, oldest first, the last one still filling: per backend arrays of requests, errors, fallbacks, client_errors and latencies (null without requests), per wire version requests, and "total" over all of it.';

-- stages/evidence.sql -----------------------------------------------------------------------------

-- What the data, the shadow reads and the row level security say against the next stage.

create or replace function crossfade_private.stages()
returns text[]
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select array['off', 'dualwrite', 'shadow', 'live', 'rampdown', 'complete', 'retired'];
$$;

comment on function crossfade_private.stages is
  'The stages, from the beginning of a migration to its end.';

create or replace function crossfade_private.stage_number(stage text)
returns integer
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select array_position(crossfade_private.stages(), stage);
$$;

comment on function crossfade_private.stage_number is
  'Place of a stage, 1 (off) to 7 (retired); null for an unknown one.';

create or replace function crossfade_private.next_stage(stage text)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select (crossfade_private.stages())[crossfade_private.stage_number(stage) + 1];
$$;

comment on function crossfade_private.next_stage is
  'The stage that comes after this one; null after the last.';

create or replace function crossfade_private.blocker(code text, message text, hint text)
returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object('code', code, 'message', message, 'hint', hint);
$$;

comment on function crossfade_private.blocker is 'One reason why a stage cannot be entered yet.';

create or replace function crossfade_private.data_blockers(pair crossfade.pairs)
returns setof jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select crossfade_private.blocker('verify_needed',
    case when (data_blockers.pair).last_clean_verify_at is null
      then 'no full verify pass has been clean yet'
      when (data_blockers.pair).last_clean_verify_at < (data_blockers.pair).last_backfill_at
        then 'the last clean verify pass is older than the backfill'
      else 'the converters have changed since the last clean verify pass' end,
    format('crossfade verify run %s', (data_blockers.pair).name))
  where (data_blockers.pair).last_clean_verify_at is null
    or (data_blockers.pair).last_clean_verify_at < (data_blockers.pair).last_backfill_at
    or (data_blockers.pair).verified_converter_hash is distinct
      from crossfade_private.converter_hash((data_blockers.pair).to_v2, (data_blockers.pair).to_v1)
  union all
  select crossfade_private.blocker('open_mismatches',
    format('%s rows differ between the tables', count(*)),
    format('crossfade repair %1$s --reason "...", then crossfade verify run %1$s',
      (data_blockers.pair).name))
  from crossfade.mismatches m where m.pair = (data_blockers.pair).name
    and m.resolved_at is null having count(*) > 0
  union all
  select crossfade_private.blocker('open_failures',
    format('%s writes reached one table only', count(*)),
    format('crossfade repair %1$s --reason "...", then crossfade verify run %1$s',
      (data_blockers.pair).name))
  from crossfade.mirror_failures f where f.pair = (data_blockers.pair).name
    and f.resolved_at is null having count(*) > 0
  union all
  select crossfade_private.blocker('drift_since_verify',
    format('%s writes were not mirrored since the last clean verify pass', count(*)),
    format('crossfade verify run %s', (data_blockers.pair).name))
  from crossfade.mirror_failures f
  where f.pair = (data_blockers.pair).name and f.resolved_at is not null
    and f.at > (data_blockers.pair).last_clean_verify_at
  having count(*) > 0;
$$;

comment on function crossfade_private.data_blockers is
  'Why the two tables cannot be trusted to be equal right now.';

create or replace function crossfade_private.shadow_blockers(pair crossfade.pairs)
returns setof jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with evidence as (
    -- Where no function reports, what is written must do: that each write was mirrored, others see.
    select e.kind, (
      select sum(n::bigint) from crossfade_private.write_counts((shadow_blockers.pair).name,
        (shadow_blockers.pair).last_clean_verify_at, null) c
      cross join lateral jsonb_each(c) s cross join lateral jsonb_each_text(s.value) t(source, n)
    ) as statements
    from crossfade_private.step_evidence(shadow_blockers.pair) e
  )
  select crossfade_private.blocker('shadow_reads', case e.kind
      when 'requests' then format('%s shadow reads compared, %s of them equal', s.compared, s.equal)
      else format('no function compares reads, and %s writes were mirrored', e.statements) end
    || format(' since the last clean verify pass (wanted: %s, share %s)',
      crossfade_private.setting_number('shadow_min_reads'),
      crossfade_private.setting_number('shadow_match_rate')),
    'Leave it in shadow under traffic; settings shadow_min_reads and shadow_match_rate decide.')
  from evidence e
  cross join (
    select coalesce(sum(r.requests), 0) compared,
      coalesce(sum(r.requests) filter (where r.outcome = 'shadow_match'), 0) equal
    from crossfade.request_minutes r
    where r.pair = (shadow_blockers.pair).name and r.outcome in ('shadow_match', 'shadow_mismatch')
      and r.minute >= date_trunc('minute', (shadow_blockers.pair).last_clean_verify_at)
  ) s
  where case e.kind when 'requests' then s.compared else coalesce(e.statements, 0) end
      < crossfade_private.setting_number('shadow_min_reads')
    or s.equal < s.compared * crossfade_private.setting_number('shadow_match_rate');
$$;

comment on function crossfade_private.shadow_blockers is
  'Why the comparison of live reads does not yet allow live.';

create or replace function crossfade_private.rls_blockers(pair crossfade.pairs)
returns setof jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    select crossfade_private.blocker('rls_parity',
      format('users may see or write different rows in the two tables (%s found)', c.differences),
      format('Make the policies equal, then: crossfade pair check-rls %s --user ID', c.pair))
    from crossfade.rls_checks c
    where c.pair = (rls_blockers.pair).name and c.differences > 0;
end $$;

comment on function crossfade_private.rls_blockers is
  'Why the row-level security of the two tables does not allow live.';

-- stages/retirement.sql ---------------------------------------------------------------------------

-- What keeps V1 from being retired into a view of its name.

create or replace function crossfade_private.view_problems(pair crossfade.pairs)
returns setof jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select crossfade_private.blocker('converter_called', format(
      'the text of converter %s cannot stand in a view: %s', c.name, q.pieces ->> c.piece),
    'Change it as that says and register the pair again.')
  from crossfade_private.pair_pieces q
  cross join lateral (
    values ('called', (view_problems.pair).to_v1), ('called_back', (view_problems.pair).to_v2)
  ) c(piece, name)
  where q.pair = (view_problems.pair).name and q.side = 2 and q.pieces ->> c.piece is not null
  union all
  select crossfade_private.blocker('converter_keeps', format(
      'converter %s takes values from the stored row of version 1 (%s), which a view does not have',
      (view_problems.pair).to_v1, coalesce((
        select string_agg(c, ', ' order by c)
        from jsonb_array_elements_text(nullif(q.pieces -> 'reads_counterpart', 'null')) c),
        'the whole row')),
    'Give version 2 a place for them, and register the pair again.')
  from crossfade_private.pair_pieces q
  where q.pair = (view_problems.pair).name and q.side = 2
    and q.pieces -> 'reads_counterpart' is distinct from '[]'
    and q.pieces ->> 'called' is null
  union all
  select crossfade_private.blocker('name_taken', format('%s exists already', n.name),
    'Rename it: stage retired needs the name.')
  from unnest(array['_archive', '_to_be']) s(suffix)
  cross join lateral crossfade_private.beside_name((view_problems.pair).v1_table, s.suffix) n(name)
  where to_regclass(n.name) is not null;
$$;

comment on function crossfade_private.view_problems is
  'Why no view can take the place of V1.';

create or replace function crossfade_private.bound_dependents(pair crossfade.pairs)
returns setof jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with v1 as (
    select c.oid, c.reltype, y.typarray
    from pg_catalog.pg_class c join pg_catalog.pg_type y on y.oid = c.reltype
    where c.oid = to_regclass((pair).v1_table)
  ),
  found as (
    -- What looks the name up when it runs finds the view.
    select d.kind, d.object, d.is_ignored, format(
      '%s Or have it written: crossfade handover plan %s', d.command, (pair).name) as command
    from crossfade_private.v1_dependents(pair) d
    left join pg_catalog.pg_proc p on d.kind = 'function' and p.oid = d.id
    where d.kind not in ('trigger', 'cron job') and (d.kind <> 'function'
      or p.prosqlbody is not null)
    union all
    select 'publication', p.name, (pair).options -> 'ignore_dependents' ? p.name,
      format('alter publication %I drop table %s;', p.name, (pair).v1_table)
    from v1 cross join lateral crossfade_private.publications_of(v1.oid) p
    where p.is_named
      and p.name in (
        select q.name from crossfade_private.publications_of(to_regclass((pair).v2_table)) q)
    union all
    select 'parameter', p.oid::regprocedure::text, (pair).options -> 'ignore_dependents'
      ? p.oid::regprocedure::text, format('select pg_get_functiondef(%L::regprocedure);',
      p.oid::regprocedure)
    from v1
    join pg_catalog.pg_proc p on p.proargtypes::oid[] && array[v1.reltype, v1.typarray]
    where p.pronamespace <> 'crossfade_private'::regnamespace
      and p.oid not in (
        select crossfade_private.called_functions(array[(pair).to_v2, (pair).to_v1]))
    union all
    select 'column', format('%s.%I', a.attrelid::regclass, a.attname), (pair).options
      -> 'ignore_dependents' ? format('%s.%I', a.attrelid::regclass, a.attname),
      format('alter table %s alter column %I type jsonb using to_jsonb(%2$I);',
        a.attrelid::regclass, a.attname)
    from v1
    join pg_catalog.pg_attribute a on a.atttypid in (v1.reltype, v1.typarray) and a.attnum > 0
      and not a.attisdropped
    join pg_catalog.pg_class c on c.oid = a.attrelid and c.relkind in ('r', 'p')
  )
  select crossfade_private.blocker('v1_bound', format(
      '%s bound to the table %s and would not follow its name: %s %s',
      case count(*) when 1 then '1 object is' else count(*) || ' objects are' end,
      (pair).v1_table, f.kind, string_agg(f.object, ', ' order by f.object)),
    string_agg(distinct f.command, ' '))
  from found f
  where not coalesce(f.is_ignored, false)
  group by f.kind;
$$;

comment on function crossfade_private.bound_dependents is
  'What PostgreSQL binds to V1 itself and not to its name, and nobody has said to let be.';

create or replace function crossfade_private.rights_for_view(pair crossfade.pairs)
returns table (command text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with granted as (
    select distinct a.grantee, lower(a.privilege_type) as privilege
    from pg_catalog.pg_class c
    cross join lateral (
      select x.grantee, x.privilege_type from pg_catalog.aclexplode(c.relacl) x
      union all
      select x.grantee, x.privilege_type from pg_catalog.pg_attribute b
      cross join lateral pg_catalog.aclexplode(b.attacl) x
      where b.attrelid = c.oid and b.attnum > 0
    ) a
    where c.oid = to_regclass((pair).v1_table) and a.grantee <> c.relowner
      and a.privilege_type in ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
  ),
  caller as (
    select g.grantee, g.privilege,
      case g.grantee when 0 then 'public' else pg_get_userbyid(g.grantee)::text end as role,
      case g.grantee when 0 then 'public'
        else quote_ident(pg_get_userbyid(g.grantee)) end as quoted
    from granted g
  )
  select format('grant %s to %s;', m.what, string_agg(m.quoted, ', ' order by m.quoted))
  from (
    select format('%s on %s', c.privilege, (pair).v2_table) as what, c.quoted
    from caller c
    where not has_table_privilege(c.role, (pair).v2_table, c.privilege)
      and not case when c.privilege <> 'delete'
        then has_any_column_privilege(c.role, (pair).v2_table, c.privilege) else false end
    union
    select format('usage on schema %I', n.nspname), c.quoted
    from caller c
    cross join (
      select v.relnamespace as id from pg_catalog.pg_class v
      where v.oid = to_regclass((pair).v2_table)
      union
      select p.pronamespace
      from crossfade_private.called_functions(array[(pair).to_v2, (pair).to_v1]) f(id)
      join pg_catalog.pg_proc p on p.oid = f.id
      where f.id not in (to_regproc((pair).to_v2), to_regproc((pair).to_v1))
    ) s
    join pg_catalog.pg_namespace n on n.oid = s.id
    where not has_schema_privilege(c.role, n.oid, 'usage')
    union
    select format('execute on function %s', f.id::regprocedure), c.quoted
    from caller c
    cross join lateral crossfade_private.called_functions(array[(pair).to_v2, (pair).to_v1]) f(id)
    where f.id not in (to_regproc((pair).to_v2), to_regproc((pair).to_v1))
      and not has_function_privilege(c.role, f.id, 'execute')
    union
    select format('usage on sequence %s', s.sequence), c.quoted
    from caller c
    join pg_catalog.pg_attribute a on a.attrelid = to_regclass((pair).v1_table) and a.attnum > 0
    cross join lateral crossfade_private.view_sequence(pair, a.attname) s(sequence)
    where c.privilege = 'insert' and s.sequence is not null
      and not has_sequence_privilege(c.role, s.sequence, 'usage')
  ) m
  group by m.what;
$$;

comment on function crossfade_private.rights_for_view is
  'Grants that those who may use V1 lack for a view of its name, which asks for their own rights on V2, on the sequence of a key and on what the converters call.';

create or replace function crossfade_private.retirement_blockers(pair crossfade.pairs)
returns setof jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select crossfade_private.view_problems(pair)
  union all
  select crossfade_private.bound_dependents(pair)
  union all
  select crossfade_private.blocker('rights', format(
      'a view asks for the rights of its callers, and they lack %s of them', count(*)),
    string_agg(r.command, ' ' order by r.command))
  from crossfade_private.rights_for_view(pair) r
  having count(*) > 0
  union all
  select d.b
  from crossfade_private.data_blockers(pair) d(b)
  where d.b ->> 'code' in ('open_mismatches', 'open_failures');
$$;

comment on function crossfade_private.retirement_blockers is
  'What stands between stage complete and retired, but for what every stage asks.';

-- stages/blockers.sql -----------------------------------------------------------------------------

-- Everything that keeps a pair from the next stage.

create or replace function crossfade_private.own_blockers(pair crossfade.pairs, stage text)
returns setof jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_next text := crossfade_private.next_stage((pair).stage);
  v_cohort crossfade.cohorts;
  v_problem text;
begin
  if stage <> v_next then
    return next crossfade_private.blocker('stage_order',
      format('%s comes after %s', v_next, (pair).stage),
      format('crossfade stage set %s %s --reason "..."', (pair).name, v_next));
    return;
  end if;
  select c.* into v_cohort from crossfade.cohorts c where c.pair = (own_blockers.pair).name;
  for v_problem in select crossfade_private.mirror_problems(pair) loop
    return next crossfade_private.blocker('mirror_broken', v_problem,
      'Change what is named, then register the pair again.');
  end loop;
  if (pair).fingerprint is distinct from crossfade_private.table_fingerprint(
    to_regclass((pair).v1_table), to_regclass((pair).v2_table)) then
    return next crossfade_private.blocker('tables_changed',
      'columns have changed since the pair was registered',
      'Adapt the converters and register the pair again.');
  end if;
  if exists (select from crossfade.runs r where r.pair = (own_blockers.pair).name
    and r.kind = 'backfill' and r.state in ('running', 'paused')) then
    return next crossfade_private.blocker('backfill_running', 'a backfill is not finished',
      format('crossfade backfill run %s', (pair).name));
  end if;
  if stage <> 'dualwrite' and (pair).last_backfill_at is null then
    return next crossfade_private.blocker('backfill_needed',
      'no backfill has finished since mirroring began',
      format('crossfade backfill run %s', (pair).name));
    return query
      select crossfade_private.blocker('parent_backfill_needed',
        format('its rows refer to rows of "%s", which are not copied yet', u),
        format('crossfade backfill run %s', u))
      from crossfade_private.uncopied_parents(pair, 'v1_to_v2') u;
  end if;
  if stage in ('live', 'rampdown', 'complete') then
    return query select crossfade_private.data_blockers(pair);
  end if;
  if stage in ('live', 'rampdown')
    and (select m.mirror from crossfade_private.mirror_state m
      where m.pair = (own_blockers.pair).name) <> 'both' then
    return next crossfade_private.blocker('mirror_paused',
      'the mirror only notes changed rows (log_only)',
      format(
        'crossfade pair mirror %1$s both --reason "...", then crossfade repair %1$s --reason "..."',
        (pair).name));
  end if;
  if stage = 'live' then
    return query select crossfade_private.shadow_blockers(pair);
    return query select crossfade_private.rls_blockers(pair);
  end if;
  if stage = 'rampdown' and v_cohort.percentage < 100 then
    return next crossfade_private.blocker('percentage',
      format('backend 2 serves %s %%, not 100 %%', v_cohort.percentage),
      format('crossfade cohort set %s --percentage 100 --reason "..."', (pair).name));
  end if;
  if stage = 'retired' then
    return query select crossfade_private.retirement_blockers(pair);
  end if;
  if stage = 'complete' then
    return query select crossfade_private.blocker('v1_written', b.message, b.hint)
      from crossfade_private.v1_write_blocker(pair) b;
    return query select crossfade_private.blocker('v1_dependents', b.message, b.hint)
      from crossfade_private.dependent_blockers(pair) b;
  end if;
  if stage = 'complete'
    and coalesce((pair).full_since > clock_timestamp() - make_interval(
    secs => crossfade_private.setting_number('stage_bake_s')::double precision), true) then
    return next crossfade_private.blocker('bake_time',
      format('backend 2 has served everybody since %s; setting stage_bake_s wants %s s',
      coalesce((pair).full_since::text, 'never'), crossfade_private.setting_text('stage_bake_s')),
      'Wait.');
  end if;
end $$;

comment on function crossfade_private.own_blockers is
  'What stands between a pair and its next stage, but for its group; no row when nothing does.';

create or replace function crossfade_private.group_blockers(pair crossfade.pairs, stage text)
returns setof jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select crossfade_private.blocker('group',
    format('the pairs of group "%s" change stage together: %s', min(g.name),
      string_agg(format('"%s" is in %s', o.name, o.stage), ', ' order by o.name)),
    format('crossfade group stage %s %s --reason "..."', min(g.name), group_blockers.stage))
  from crossfade_private.pair_groups() g
  join crossfade_private.pair_groups() m on m.name = g.name and m.pair <> g.pair
  join crossfade.pairs o on o.name = m.pair
    and crossfade_private.stage_number(o.stage)
      < crossfade_private.stage_number(group_blockers.stage)
  where g.pair = (group_blockers.pair).name
    -- Parents may open first: nothing of theirs refers to a child.
    and (group_blockers.stage <> 'dualwrite' or m.pair in (
      select a.ancestor from crossfade_private.pair_ancestors() a where a.pair = g.pair))
  having count(*) > 0;
$$;

comment on function crossfade_private.group_blockers is
  'Why a pair cannot enter a stage alone: others of its group have not entered it; for dualwrite, pairs to which its rows refer.';

create or replace function crossfade_private.stage_blockers(pair crossfade.pairs, stage text)
returns setof jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select crossfade_private.own_blockers(pair, stage)
  union all
  select crossfade_private.group_blockers(pair, stage);
$$;

comment on function crossfade_private.stage_blockers is
  'What stands between a pair and its next stage; no row when nothing does.';

-- stages/sequences.sql ----------------------------------------------------------------------------

-- Keys that are handed out, when the leader changes: the new leader's sequence must be past every
-- key of both tables, and V2's defaults must not need V1 when that is an archive.

create or replace function crossfade_private.greatest_key(tab regclass, column_name text)
returns bigint
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_found bigint;
begin
  -- Without an index that begins with the column this would read the whole table.
  if exists (
    select from pg_catalog.pg_index i
    join pg_catalog.pg_attribute a on a.attrelid = tab and a.attnum = i.indkey[0]
    where i.indrelid = tab and i.indisvalid and i.indpred is null and a.attname = column_name
      and crossfade_private.key_family(a.atttypid, a.atttypmod) = 'an integer'
  ) then
    execute format('select max(%I) from %s', column_name, tab) into v_found;
  end if;
  return v_found;
end $$;

comment on function crossfade_private.greatest_key is
  'The greatest key of a table; null without rows, and where finding it would take long.';

create or replace function crossfade_private.advance_sequence(sequence regclass, past bigint)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_sequence pg_catalog.pg_sequence;
  -- Others may take values meanwhile: setting exactly what was read could take the sequence back.
  v_margin constant integer := 100;
begin
  select s.* into v_sequence from pg_catalog.pg_sequence s where s.seqrelid = sequence;
  if v_sequence.seqincrement > 0 and past <= v_sequence.seqmax
    and past >= coalesce(pg_sequence_last_value(sequence), v_sequence.seqstart - 1) then
    perform setval(sequence, least(v_sequence.seqmax, past + v_margin * v_sequence.seqincrement));
  end if;
exception when insufficient_privilege then
  raise warning 'crossfade: sequence % could not be set past %: %', sequence, past, sqlerrm;
end $$;

comment on function crossfade_private.advance_sequence is
  'Set a sequence past a value that was taken without it; never back. Not undone by a rollback. A WARNING where the engine''s owner may not.';

create or replace function crossfade_private.lead_sequences(pair crossfade.pairs, side integer)
returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select crossfade_private.advance_sequence(
    case side when 1 then s.sequence_1 else s.sequence_2 end, greatest(
      pg_sequence_last_value(case side when 1 then s.sequence_2 else s.sequence_1 end),
      crossfade_private.greatest_key(((pair).v1_table)::regclass, s.column_1),
      crossfade_private.greatest_key(((pair).v2_table)::regclass, s.column_2)))
  from crossfade_private.key_sequences(pair) s
  -- One that both tables share has handed out every key itself.
  where s.sequence_1 is distinct from s.sequence_2
    and case side when 1 then s.sequence_1 else s.sequence_2 end is not null;
$$;

comment on function crossfade_private.lead_sequences is
  'Set the key sequences of one side past every key of both tables: that side leads from now on.';

create or replace function crossfade_private.copy_sequence_rights(
  from_sequence regclass, to_sequence regclass
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_grant record;
begin
  execute format('alter sequence %s owner to %I', to_sequence, (
    select pg_get_userbyid(c.relowner) from pg_catalog.pg_class c where c.oid = from_sequence));
  for v_grant in
    select g.privilege_type as right, coalesce(quote_ident(r.rolname), 'public') as role
    from pg_catalog.pg_class c
    cross join lateral pg_catalog.aclexplode(c.relacl) g
    left join pg_catalog.pg_roles r on r.oid = g.grantee
    where c.oid = from_sequence
  loop
    execute format('grant %s on sequence %s to %s', v_grant.right, to_sequence, v_grant.role);
  end loop;
end $$;

comment on function crossfade_private.copy_sequence_rights is
  'Give a sequence the owner and the rights of another one.';

create or replace function crossfade_private.own_sequences(pair crossfade.pairs)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '2s'
as $$
declare
  v_1 constant regclass := (pair).v1_table;
  v_2 constant regclass := (pair).v2_table;
  v_column record;
  v_own text;
  v_moved jsonb := '[]'::jsonb;
begin
  for v_column in
    select a.attname as name, s.sequence, o.column_name as owner, o.is_identity,
      pg_get_expr(e.adbin, e.adrelid) as before,
      c.relnamespace = q.relnamespace and c.relowner = q.relowner as can_move
    from pg_catalog.pg_attribute a
    join pg_catalog.pg_class c on c.oid = a.attrelid
    join pg_catalog.pg_attrdef e on e.adrelid = a.attrelid and e.adnum = a.attnum
    cross join lateral crossfade_private.default_sequence(v_2, a.attname::text) s(sequence)
    join pg_catalog.pg_class q on q.oid = s.sequence
    cross join lateral crossfade_private.sequence_owner(s.sequence) o
    where a.attrelid = v_2 and o.tab = v_1
    order by a.attnum
  loop
    if v_column.is_identity then
      -- PostgreSQL lets nobody else own the sequence of an identity column.
      v_own := format('%I.%I', (select c.relnamespace::regnamespace from pg_catalog.pg_class c
        where c.oid = v_2), left((pair).name, 30) || '_' || left(v_column.name, 20) || '_own_seq');
      execute format('create sequence %s as bigint owned by %s.%I', v_own, v_2, v_column.name);
      execute format('alter table %s alter column %I set default nextval(%L)', v_2, v_column.name,
        v_own);
      perform crossfade_private.copy_sequence_rights(v_column.sequence, v_own::regclass);
      -- Also of a column that is no key of the pair, as V1's own key that a V2 with uuids keeps.
      perform crossfade_private.advance_sequence(v_own::regclass, greatest(
        pg_sequence_last_value(v_column.sequence),
        crossfade_private.greatest_key(v_1, v_column.owner),
        crossfade_private.greatest_key(v_2, v_column.name)));
      v_moved := v_moved || jsonb_build_array(jsonb_build_object('column', v_column.name,
        'sequence', v_own, 'before', v_column.before));
    else
      -- In another schema or of another owner it can belong to no column of V2, but it stays.
      execute format('alter sequence %s owned by %s', v_column.sequence, case
        when v_column.can_move then format('%s.%I', v_2, v_column.name) else 'none' end);
      v_moved := v_moved || jsonb_build_array(jsonb_build_object('column', v_column.name,
        'sequence', v_column.sequence::text, 'owner', v_column.owner));
    end if;
  end loop;
  return v_moved;
end $$;

comment on function crossfade_private.own_sequences is
  'Free V2''s defaults of V1: sequences that V1 owns become V2''s, or nobody''s; for one of an identity column V2 gets its own, with ACCESS EXCLUSIVE on V2 for milliseconds (waits at most 2 s, 55P03). Gives what crossfade.pairs.moved_sequences keeps.';

create or replace function crossfade_private.return_sequences(pair crossfade.pairs)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '2s'
as $$
declare
  v_moved record;
begin
  for v_moved in
    select m."column" as name, m.sequence, m.owner, m.before
    from jsonb_to_recordset((pair).moved_sequences)
      m("column" text, sequence text, owner text, before text)
    where to_regclass(m.sequence) is not null
  loop
    if v_moved.before is not null then
      execute format('alter table %s alter column %I set default %s', (pair).v2_table, v_moved.name,
        v_moved.before);
      perform crossfade_private.advance_sequence(
        crossfade_private.default_sequence(((pair).v2_table)::regclass, v_moved.name),
        pg_sequence_last_value(v_moved.sequence::regclass));
      execute format('drop sequence %s', v_moved.sequence);
    else
      execute format('alter sequence %s owned by %s.%I', v_moved.sequence, (pair).v1_table,
        v_moved.owner);
    end if;
  end loop;
end $$;

comment on function crossfade_private.return_sequences is
  'Undo own_sequences, on the way back from complete. The same locks.';

-- stages/swapping.sql -----------------------------------------------------------------------------

-- Stage retired: the exchange of V1 and the view of its name, there and back.

create or replace function crossfade_private.await_turn(statements text[])
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
-- Whoever comes after this queues behind it: a short wait, again and again, keeps them going.
set lock_timeout = '300ms'
as $$
begin
  for v_attempt in 1..6 loop
    begin
      for v_place in 1..cardinality(statements) loop
        execute statements[v_place];
      end loop;
      return;
    exception when lock_not_available or deadlock_detected then
      if v_attempt = 6 then
        raise;
      end if;
      perform pg_sleep(0.1);
    end;
  end loop;
end $$;

comment on function crossfade_private.await_turn is
  'Execute statements that take strong locks, all of them or, after 2 s of short attempts, none (55P03).';

create or replace function crossfade_private.prepare_views(pairs crossfade.pairs[])
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pair crossfade.pairs;
begin
  foreach v_pair in array pairs loop
    perform crossfade_private.make_view(v_pair);
  end loop;
  -- Order matters: V1 and not V2 first, which its writers would never leave free.
  perform crossfade_private.await_turn(array(
    select format('lock table %s in access exclusive mode', p.v1_table) from unnest(pairs) p));
end $$;

comment on function crossfade_private.prepare_views is
  'Make the views that take the place of V1 of some pairs, and then hold all V1: what follows takes milliseconds.';

create or replace function crossfade_private.rename_v1(
  pair crossfade.pairs, to_name text, view_name text
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_knows boolean;
begin
  v_knows := (pair).converter_hash = crossfade_private.converter_hash((pair).to_v2, (pair).to_v1);
  execute format('alter table %s rename to %I', (pair).v1_table, (parse_ident(to_name))[2]);
  perform set_config('crossfade.engine', 'on', true);
  -- Definitions of converters name their types: only those are called otherwise now.
  update crossfade.pairs p
  set v1_table = to_name, v1_view = view_name,
    converter_hash = case when v_knows
      then crossfade_private.converter_hash(p.to_v2, p.to_v1) else p.converter_hash end,
    verified_converter_hash = case when v_knows and p.verified_converter_hash = p.converter_hash
      then crossfade_private.converter_hash(p.to_v2, p.to_v1) else p.verified_converter_hash end
  where p.name = (rename_v1.pair).name;
  perform set_config('crossfade.engine', '', true);
end $$;

comment on function crossfade_private.rename_v1 is
  'Give the table of V1 another name, and the row of the pair with it. ACCESS EXCLUSIVE on it.';

create or replace function crossfade_private.swap_in_view(pair crossfade.pairs)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  perform crossfade_private.rename_v1(pair,
    crossfade_private.beside_name((pair).v1_table, '_archive'), (pair).v1_table);
  execute format('alter view %s rename to %I',
    crossfade_private.beside_name((pair).v1_table, '_to_be'),
    (parse_ident((pair).v1_table))[2]);
  perform pg_notify('pgrst', 'reload schema');
end $$;

comment on function crossfade_private.swap_in_view is
  'V1 becomes the archive, and the view that prepare_views made takes its name.';

create or replace function crossfade_private.swap_back_tables(pairs crossfade.pairs[])
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pair crossfade.pairs;
begin
  -- Order matters: the view first, which its writers hold before they hold V2. Under another name
  -- it is out of their way.
  perform crossfade_private.await_turn(array(
    select format('alter view %s rename to %I', p.v1_view, (
      parse_ident(crossfade_private.beside_name(p.v1_view, '_to_be')))[2]) from unnest(pairs) p));
  foreach v_pair in array pairs loop
    execute format('drop view %s', crossfade_private.beside_name(v_pair.v1_view, '_to_be'));
    execute format('drop function crossfade_private.mirror_%s_v1_view()', v_pair.name);
    perform crossfade_private.rename_v1(v_pair, v_pair.v1_view, null);
    -- A release that came meanwhile has left its mirror alone, which names V1.
    if v_pair.generator <> crossfade_private.generator() then
      perform crossfade_private.install_pair(crossfade_private.get_pair(v_pair.name));
    end if;
  end loop;
  perform pg_notify('pgrst', 'reload schema');
end $$;

comment on function crossfade_private.swap_back_tables is
  'The views go, and the archives of some pairs get their names again, with the rows they had.';

-- stages/changing.sql -----------------------------------------------------------------------------

-- The parts of a change of stage.

create or replace function crossfade_private.refuse_stage(
  pair crossfade.pairs, stage text, blockers jsonb
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  perform crossfade_private.fail(409, 'CF005',
    format('Cannot set "%s" to %s: %s', (pair).name, stage, (
      select string_agg(case when b ->> 'pair' <> (pair).name
          then format('"%s": %s', b ->> 'pair', b ->> 'message') else b ->> 'message' end, '; ')
      from jsonb_array_elements(blockers) b)),
    jsonb_build_object('pair', (pair).name, 'stage', (pair).stage, 'wanted', stage, 'blockers',
      blockers),
    coalesce(nullif(blockers -> 0 ->> 'hint', ''), 'crossfade stage blockers PAIR'));
end $$;

comment on function crossfade_private.refuse_stage is
  'Raise CF005 with every blocker in the detail.';

create or replace function crossfade_private.check_way_back(pair crossfade.pairs, stage text)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_blockers jsonb;
begin
  if (pair).stage = 'retired' and stage <> 'complete' then
    perform crossfade_private.refuse_stage(pair, stage, jsonb_build_array(
      crossfade_private.blocker('stage_order', 'from retired the way back leads to complete',
        format('crossfade stage set %s complete --reason "..."', (pair).name))));
  elsif (pair).stage = 'retired' then
    select jsonb_agg(crossfade_private.blocker('view_dependents',
      format('%s %s depends on the view %s, which goes', d.kind, d.object, (pair).v1_view),
      d.command)) into v_blockers
    from crossfade_private.catalog_dependents(to_regclass((pair).v1_view)) d;
  end if;
  if v_blockers is not null then
    perform crossfade_private.refuse_stage(pair, stage, v_blockers);
  elsif (pair).stage <> 'complete' then
    return;
  end if;
  -- V1 is an archive by now: it must be current again before anything may be served from it.
  select jsonb_agg(b) into v_blockers from (
    select crossfade_private.blocker('stage_order', 'from complete the way back leads to rampdown',
      'crossfade stage set PAIR rampdown') b
    where stage <> 'rampdown'
    union all
    select crossfade_private.blocker('reverse_backfill',
      'version 1 has not been brought up to date', 'crossfade backfill run --direction v2_to_v1')
    where (pair).needs_reverse_backfill
    union all
    select crossfade_private.data_blockers(pair)
  ) q;
  if v_blockers is not null then
    perform crossfade_private.refuse_stage(pair, stage, v_blockers);
  end if;
end $$;

comment on function crossfade_private.check_way_back is
  'Only complete and retired have preconditions on the way back (CF005).';

create or replace function crossfade_private.check_group_way_back(
  pair crossfade.pairs, stage text
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_group constant text := (select g.name from crossfade_private.pair_groups() g
    where g.pair = (check_group_way_back.pair).name);
  v_others constant text[] := array(
    select o.name from crossfade.pairs o
    where o.name <> (check_group_way_back.pair).name and case
      -- An archive that refuses writes would refuse what foreign keys do to it.
      when (check_group_way_back.pair).stage = 'complete' then o.stage in ('complete', 'retired')
        and o.name in (
        select crossfade_private.group_of((check_group_way_back.pair).name))
      -- Rows would refer to rows that are mirrored no more.
      when check_group_way_back.stage = 'off' then o.stage <> 'off' and exists (
        select from crossfade_private.pair_ancestors() a
        where a.pair = o.name and a.ancestor = (check_group_way_back.pair).name)
      else false end
    order by o.name);
begin
  if v_others <> '{}' then
    perform crossfade_private.refuse_stage(pair, stage, jsonb_build_array(
      crossfade_private.blocker('group',
        format('"%s" %s of its group and would be left behind', array_to_string(v_others, '", "'),
          case cardinality(v_others) when 1 then 'is' else 'are' end),
        format('crossfade group stage %s %s --reason "..."', v_group, stage))));
  end if;
end $$;

comment on function crossfade_private.check_group_way_back is
  'CF005 where a pair cannot go back without others of its group: out of complete, and off while pairs refer to it.';

create or replace function crossfade_private.change_leader(pair crossfade.pairs, stage text)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_moved jsonb := '[]'::jsonb;
begin
  -- Order matters: who takes from which sequence first, then past what it must be.
  if 'retired' in (stage, (pair).stage) then
    return (pair).moved_sequences; -- between complete and retired version 2 leads
  elsif stage = 'complete' then
    v_moved := crossfade_private.own_sequences(pair);
    perform crossfade_private.lead_sequences(pair, 2);
  elsif (pair).stage = 'complete' then
    perform crossfade_private.return_sequences(pair);
    perform crossfade_private.lead_sequences(pair, 1);
  elsif stage = 'rampdown' then
    perform crossfade_private.lead_sequences(pair, 2);
  elsif (pair).stage = 'rampdown' then
    perform crossfade_private.lead_sequences(pair, 1);
  end if;
  return v_moved;
end $$;

comment on function crossfade_private.change_leader is
  'What a change of stage means for the keys that both tables hand out; gives what crossfade.pairs.moved_sequences keeps. Into complete it takes the locks of own_sequences, back from it those of return_sequences.';

create or replace function crossfade_private.enter_stage(pair crossfade.pairs, stage text)
returns crossfade.pairs
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_version bigint := crossfade_private.bump_version();
  v_forward boolean := crossfade_private.stage_number(stage) > crossfade_private.stage_number(
    (pair).stage);
  v_mirror text := case
    when stage = 'off' then 'off'
    when stage in ('complete', 'retired') then 'archived'
    -- Its rows refer to rows that are not copied yet: every write would fail. Nothing is lost: its
    -- backfill comes after theirs, and begins by switching its mirror on.
    when (pair).stage = 'off' and exists (
      select from crossfade_private.uncopied_parents(pair, 'v1_to_v2')) then 'waiting'
    else 'both' end;
  v_row crossfade.pairs;
  v_stepping text := coalesce(current_setting('crossfade.stepping', true), '');
  v_watched boolean := stage = 'rampdown';
  v_moved jsonb := crossfade_private.change_leader(pair, stage);
  v_unproven boolean := false;
begin
  -- For the step that ends here.
  perform crossfade_private.sample_writes((pair).name);
  if (pair).stage = 'off' then
    -- Left by mirroring that was switched off, say, while V1 went on: whose rows these are by now
    -- is not known.
    execute format('select exists (select from %s)', (pair).v2_table) into v_unproven;
  end if;
  if stage = 'retired' then
    perform crossfade_private.swap_in_view(pair);
  end if;
  update crossfade_private.mirror_state m
  set mirror = v_mirror,
    unproven = case (enter_stage.pair).stage when 'off' then v_unproven else m.unproven end,
    watched_since = case when v_watched then coalesce(m.watched_since, clock_timestamp()) end
  where m.pair = (enter_stage.pair).name
    and (m.mirror <> v_mirror or (m.watched_since is not null) <> v_watched)
    -- A paused mirror stays paused between the two stages that allow it.
    and not (m.mirror = 'log_only' and enter_stage.stage in ('dualwrite', 'shadow'));
  update crossfade.pairs p
  set stage = enter_stage.stage, step = p.step + 1, step_started_at = clock_timestamp(),
    step_flags_version = v_version,
    stage_xid = case when p.stage <> 'off' then p.stage_xid end,
    last_backfill_at = case when enter_stage.stage <> 'off' then p.last_backfill_at end,
    last_clean_verify_at = case when enter_stage.stage <> 'off' then p.last_clean_verify_at end,
    full_since = case when enter_stage.stage in ('rampdown', 'complete', 'retired')
      then coalesce(p.full_since, clock_timestamp()) end,
    needs_reverse_backfill = p.needs_reverse_backfill
      or enter_stage.stage in ('complete', 'retired'),
    moved_sequences = v_moved
  where p.name = (enter_stage.pair).name
  returning * into v_row;
  perform crossfade_private.open_or_close(v_row.name);
  if not v_forward and stage in ('off', 'dualwrite', 'shadow') then
    -- Going forward again must not put the old share of users on version 2 at once.
    perform set_config('crossfade.stepping', 'on', true);
    update crossfade.cohorts c set percentage = 0 where c.pair = v_row.name and c.percentage <> 0;
    perform set_config('crossfade.stepping', v_stepping, true);
  end if;
  if stage in ('off', 'retired') then
    update crossfade.runs r set state = 'cancelled', reason = format('stage %s', v_row.stage),
      finished_at = clock_timestamp()
    where r.pair = v_row.name and r.state in ('running', 'paused');
  end if;
  if stage = 'off' then
    delete from crossfade_private.tombstones z where z.pair = v_row.name;
    update crossfade_private.mirror_state m set tombstones = false where m.pair = v_row.name
      and m.tombstones;
  end if;
  return v_row;
end $$;

comment on function crossfade_private.enter_stage is
  'Set the stage without asking: mirror, step, cohort, runs and sequences follow. Locks rows of the pair only; entering and leaving complete also tables, as change_leader says.';

create or replace function crossfade_private.await_v1_writers(pair crossfade.pairs)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '2s'
as $$
begin
  -- A writer of V1 under way could still record a failure that names V1 as the right side. In
  -- complete V2 goes on alone, and on the way back that record would undo newer writes of V2.
  execute format('lock table %s in share row exclusive mode', (pair).v1_table);
end $$;

comment on function crossfade_private.await_v1_writers is
  'Wait for the writers of V1 and keep new ones off until the transaction ends, so that what they recorded can be seen. SHARE ROW EXCLUSIVE, which the trigger of the archive needs as well; waits at most 2 s (55P03).';

-- stages/stages.sql -------------------------------------------------------------------------------

-- Stages: one way forward, with every precondition; the way back needs only a reason.

create or replace function crossfade_private.move_forward(
  pairs crossfade.pairs[], stage text, confirm boolean, alone boolean
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pair crossfade.pairs;
  v_blocked crossfade.pairs;
  v_found jsonb;
  v_blockers jsonb := '[]'::jsonb;
begin
  foreach v_pair in array pairs loop
    if v_pair.latched_at is not null then
      perform crossfade_private.fail(409, 'CF006',
        format('Cannot set "%s" to %s: it was rolled back automatically (%s)', v_pair.name, stage,
        v_pair.latch_reason),
        jsonb_build_object('pair', v_pair.name, 'latched_at', v_pair.latched_at, 'latch_reason',
          v_pair.latch_reason),
        'Find the cause, then crossfade rollout rearm PAIR --reason "...".');
    end if;
    if stage = 'complete' then
      perform crossfade_private.await_v1_writers(v_pair);
    end if;
  end loop;
  foreach v_pair in array pairs loop
    select jsonb_agg(b || jsonb_build_object('pair', v_pair.name)) into v_found
    from (
      select crossfade_private.own_blockers(v_pair, stage)
      union all
      select crossfade_private.group_blockers(v_pair, stage) where alone
    ) f(b);
    if v_found is not null then
      if v_blockers = '[]' then
        v_blocked := v_pair;
      end if;
      v_blockers := v_blockers || v_found;
    end if;
  end loop;
  if v_blockers <> '[]' then
    perform crossfade_private.refuse_stage(v_blocked, stage, v_blockers);
  end if;
  if stage = 'complete' and not coalesce(confirm, false) then
    perform crossfade_private.fail(409, 'CF013',
      format(
      'Setting "%s" to complete needs a confirmation: version 1 becomes a read-only archive',
      (select string_agg(p.name, '", "') from unnest(pairs) p)),
      jsonb_build_object('pair', (pairs[1]).name), 'The same command with --confirm.');
  end if;
  if stage = 'retired' then
    perform crossfade_private.prepare_views(pairs);
  end if;
  foreach v_pair in array pairs loop
    perform crossfade_private.enter_stage(v_pair, stage);
  end loop;
end $$;

comment on function crossfade_private.move_forward is
  'Move pairs to their next stage, in this order, with all preconditions of all of them (CF005, CF006, CF013). alone: the rest of their groups must have been there before.';

create or replace function crossfade_private.move_pairs(
  pair_names text[], stage text, reason text, confirm boolean, alone boolean
)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  -- As they are when all are locked, in the order of the names given.
  v_before crossfade.pairs[];
  v_forward crossfade.pairs[];
  v_back crossfade.pairs[];
  v_pair crossfade.pairs;
begin
  if crossfade_private.stage_number(stage) is null then
    perform crossfade_private.fail(400, 'CF012', format('Unknown stage "%s"', stage),
      jsonb_build_object('stage', stage),
      format('Stages: %s.', array_to_string(crossfade_private.stages(), ', ')));
  end if;
  perform crossfade_private.require_reason(reason, format('set "%s" to %s',
    array_to_string(pair_names, '", "'), stage));
  -- By name, as whoever locks several pairs: see lock_control.
  perform from crossfade.pairs p where p.name = any (pair_names) order by p.name
  for no key update;
  select array_agg(p order by u.n),
    array_agg(p order by u.n) filter (where crossfade_private.stage_number(p.stage)
      < crossfade_private.stage_number(move_pairs.stage)),
    -- Children first: nothing may go on referring to what is switched off.
    array_agg(p order by u.n desc) filter (where crossfade_private.stage_number(p.stage)
      > crossfade_private.stage_number(move_pairs.stage))
  into v_before, v_forward, v_back
  from unnest(pair_names) with ordinality u(name, n) join crossfade.pairs p on p.name = u.name;
  if exists (select from unnest(v_back) b where b.stage = 'complete') then
    -- Those that came late to the group, by a new foreign key, must not bar the way out.
    v_forward := null;
  end if;
  if v_forward is not null and v_back is not null then
    perform crossfade_private.fail(409, 'CF005',
      format('Cannot set "%s" to %s: "%s" would go forward and "%s" back',
        array_to_string(pair_names, '", "'), stage,
        (select string_agg(p.name, '", "') from unnest(v_forward) p),
        (select string_agg(p.name, '", "') from unnest(v_back) p)),
      jsonb_build_object('pair', (v_forward[1]).name, 'stage', (v_forward[1]).stage, 'wanted',
        stage, 'blockers', jsonb_build_array()),
      'Bring them to one stage first: crossfade stage set PAIR STAGE.');
  end if;
  if v_forward is not null then
    perform crossfade_private.move_forward(v_forward, stage, confirm, alone);
  end if;
  foreach v_pair in array coalesce(v_back, '{}') loop
    if alone then
      perform crossfade_private.check_group_way_back(v_pair, stage);
    end if;
    perform crossfade_private.check_way_back(v_pair, stage);
  end loop;
  perform crossfade_private.swap_back_tables(array(
    select p from unnest(v_back) p where p.stage = 'retired'));
  foreach v_pair in array coalesce(v_back, '{}') loop
    perform crossfade_private.enter_stage(v_pair, stage);
  end loop;
  return (
    select jsonb_agg(jsonb_build_object('pair', b.name, 'before', b.stage, 'after', p.stage,
      'step', p.step) order by b.ordinality)
    from unnest(v_before) with ordinality b join crossfade.pairs p on p.name = b.name);
end $$;

comment on function crossfade_private.move_pairs is
  'Move pairs to one stage in one transaction, forward in the order given and back in the other one: [{"pair", "before", "after", "step"}]. Nothing happens when one of them may not. alone: without the rest of their groups, which then must have gone before. Locks the pairs by name.';

create or replace function crossfade.set_stage(
  pair text, stage text, reason text, confirm boolean default false
)
returns jsonb
language plpgsql volatile
security definer -- stages are changed by functions only
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pair constant crossfade.pairs := crossfade_private.get_pair(pair);
begin
  return (crossfade_private.move_pairs(array[v_pair.name], stage, reason, confirm, true) -> 0)
    || jsonb_build_object('flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.set_stage is
  'Move a pair to a stage: {"pair", "before", "after", "step", "flags_version"}. Forward one stage at a time with all preconditions (CF005 with detail.blockers, CF006 latched, CF013 unconfirmed complete), and never past the rest of its group, but for dualwrite, which parents may enter first; back at any time with a reason (CF007), except from retired, which leads to complete, and from complete, which needs a reverse backfill and a clean verify, and where others of its group would be left behind (out of complete; off while pairs refer to it). Takes no table lock, except that complete waits up to 2 s (55P03) for the writers of V1, and that into retired V1 and out of it the view of its name are held ACCESS EXCLUSIVE for milliseconds, after up to 2 s of short attempts (55P03).';

create or replace function crossfade.set_group_stage(
  name text, stage text, reason text, confirm boolean default false
)
returns jsonb
language plpgsql volatile
security definer -- stages are changed by functions only
set search_path = pg_catalog, pg_temp
as $$
begin
  return jsonb_build_object('pairs', crossfade_private.move_pairs(
      crossfade_private.find_group(name), stage, reason, confirm, false),
    'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.set_group_stage is
  'Move all pairs of a group, named by it or by one of them, to a stage in one transaction, or none: {"pairs": [{"pair", "before", "after", "step"}], "flags_version"}. Those that are there already stay, and on the way out of complete those that have not come as far as the stage. Refusals and locks as set_stage, of all of them; CF005 also when some would else go forward and some back.';

-- stages/cohorts.sql ------------------------------------------------------------------------------

-- Cohorts: who is served by V2.

create or replace function crossfade_private.check_raise(pair crossfade.pairs, percentage numeric)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if (pair).latched_at is not null then
    perform crossfade_private.fail(409, 'CF006',
      format('Cannot raise "%s" to %s %%: it was rolled back automatically (%s)', (pair).name,
      percentage, (pair).latch_reason),
      jsonb_build_object('pair', (pair).name, 'latched_at', (pair).latched_at, 'latch_reason',
        (pair).latch_reason),
      'Find the cause, then crossfade rollout rearm PAIR --reason "...".');
  end if;
  if (pair).stage <> 'live' then
    perform crossfade_private.fail(409, 'CF005',
      format('Cannot raise "%s" to %s %%: it is in stage %s, not live', (pair).name, percentage,
      (pair).stage),
      jsonb_build_object('pair', (pair).name, 'stage', (pair).stage, 'blockers', jsonb_build_array(
        crossfade_private.blocker('stage', format('the stage is %s', (pair).stage),
          'crossfade stage set PAIR live'))),
      'crossfade stage set PAIR live');
  end if;
end $$;

comment on function crossfade_private.check_raise is
  'Refuse more version 2 while latched (CF006) or outside stage live (CF005).';

create or replace function crossfade.set_cohort(pair text, changes jsonb, reason text)
returns jsonb
language plpgsql volatile
security definer -- cohorts are changed by functions only
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pair crossfade.pairs := crossfade_private.get_pair(pair);
  v_cohort crossfade.cohorts;
  v_new crossfade.cohorts;
  v_unknown text;
begin
  perform crossfade_private.require_reason(reason, format('change the cohort of "%s"', pair));
  select k into v_unknown from jsonb_object_keys(changes) k
  where k not in ('percentage', 'cohort_key', 'enabled_user_ids', 'enabled_agent_ids',
    'denied_user_ids', 'denied_agent_ids') limit 1;
  if v_unknown is not null then
    perform crossfade_private.fail(400, 'CF012', format('Unknown cohort field "%s"', v_unknown),
      jsonb_build_object('field', v_unknown),
      'Fields: percentage, cohort_key, enabled_user_ids, enabled_agent_ids, denied_user_ids, denied_agent_ids.');
  end if;
  if changes ? 'percentage' then
    perform crossfade_private.check_percentage(changes -> 'percentage');
  end if;
  -- Order matters: all of them by name, as the trigger of cohorts will. With its own one first, two
  -- callers for two pairs would wait for each other.
  perform from crossfade.pairs p order by p.name for no key update;
  select p.* into v_pair from crossfade.pairs p where p.name = set_cohort.pair;
  select c.* into v_cohort from crossfade.cohorts c where c.pair = set_cohort.pair for update;
  v_new := jsonb_populate_record(v_cohort, changes);
  if v_new.percentage > v_cohort.percentage then
    perform crossfade_private.check_raise(v_pair, v_new.percentage);
  end if;
  if v_new is distinct from v_cohort then
    update crossfade.cohorts c
    set percentage = v_new.percentage, cohort_key = v_new.cohort_key,
      enabled_user_ids = v_new.enabled_user_ids, enabled_agent_ids = v_new.enabled_agent_ids,
      denied_user_ids = v_new.denied_user_ids, denied_agent_ids = v_new.denied_agent_ids
    where c.pair = set_cohort.pair returning * into v_new;
    v_pair := crossfade_private.get_pair(pair);
  end if;
  return jsonb_build_object('cohort', to_jsonb(v_new), 'step', v_pair.step, 'flags_version',
    crossfade.flags_version());
end $$;

comment on function crossfade.set_cohort is
  'Change percentage or lists of a pair''s cohort: {"cohort", "step", "flags_version"}. Raising the percentage needs stage live and no latch (CF005, CF006); lowering is always allowed. Percentage 0 to 100 with at most three decimals (CF004). CF001, CF007, CF012.';

create or replace trigger crossfade_before_lock
before insert or update or delete on crossfade.cohorts
for each statement execute function crossfade_private.before_control_change();

create or replace trigger crossfade_before_stamp
before update on crossfade.cohorts
for each row execute function crossfade_private.stamp_row();

-- stages/hand_edits.sql ---------------------------------------------------------------------------

-- Hand edits of pairs and cohorts, in Studio or by SQL: either they do all that the functions do,
-- or they are refused with the name of the function.

create or replace function crossfade_private.is_engine()
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(current_setting('crossfade.engine', true), '') = 'on';
$$;

comment on function crossfade_private.is_engine is
  'Whether a function of crossfade is at work, which has asked everything already.';

create or replace function crossfade_private.refuse_pair_edit(
  pair text, what text, instead text
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  perform crossfade_private.fail(409, 'CF016',
    format('Cannot %s of pair "%s" by hand: its mirror would not follow', what, pair),
    jsonb_build_object('pair', pair), instead);
end $$;

comment on function crossfade_private.refuse_pair_edit is 'Raise CF016 with the function to call.';

create or replace function crossfade_private.guard_pair()
returns trigger
language plpgsql volatile
-- Definer: API roles hold no right on crossfade_private.
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_mirror text;
begin
  if crossfade_private.is_engine() then
    return coalesce(new, old);
  end if;
  if tg_op = 'DELETE' then
    -- The triggers would stay and find no state: writes would silently not be mirrored.
    perform crossfade_private.refuse_pair_edit(
      old.name, 'delete the row', 'crossfade.unregister_pair(pair, reason)');
  end if;
  if row(new.name, new.v1_table, new.v1_view, new.v2_table, new.to_v2, new.to_v1, new.key_columns,
      new.v2_key_columns)
    is distinct from row(old.name, old.v1_table, old.v1_view, old.v2_table, old.to_v2, old.to_v1,
      old.key_columns, old.v2_key_columns) then
    perform crossfade_private.refuse_pair_edit(old.name, 'change name, tables, key or converters',
      'crossfade.register_pair(...), after crossfade.unregister_pair when it is not the converters');
  end if;
  select m.mirror into v_mirror from crossfade_private.mirror_state m where m.pair = new.name;
  if new.stage <> old.stage and (
    (new.stage = 'off') is distinct from (v_mirror = 'off')
    or (new.stage = 'retired') is distinct from (new.v1_view is not null)
    or (new.stage in ('complete', 'retired'))
      is distinct from (v_mirror in ('archived', 'reverse'))) then
    perform crossfade_private.refuse_pair_edit(
      old.name, 'set the stage', 'crossfade.set_stage(pair, stage, reason)');
  end if;
  return new;
end $$;

comment on function crossfade_private.guard_pair is
  'Trigger: what the mirror depends on is changed by functions only (CF016).';

create or replace function crossfade_private.lock_pairs()
returns trigger
language plpgsql volatile
security definer -- the hand edit may come from a role that cannot lock them
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Order matters: pairs, the control row, cohorts, as in set_cohort and set_stage.
  -- A change of stage has locked its own, and would wait here for one that wants the control row.
  if coalesce(current_setting('crossfade.stepping', true), '') <> 'on' then
    perform from crossfade.pairs p order by p.name for no key update;
  end if;
  return null;
end $$;

comment on function crossfade_private.lock_pairs is
  'BEFORE STATEMENT trigger of cohorts: take the locks in the order of set_cohort.';

create or replace function crossfade_private.follow_percentage()
returns trigger
language plpgsql volatile
security definer -- the hand edit may come from a role that cannot write pairs
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pair crossfade.pairs;
begin
  select p.* into v_pair from crossfade.pairs p where p.name = new.pair;
  if new.percentage > coalesce(old.percentage, 0) and not crossfade_private.is_engine() then
    perform crossfade_private.check_raise(v_pair, new.percentage);
  end if;
  perform crossfade_private.sample_writes(new.pair);
  update crossfade.pairs p
  set step = p.step + 1, step_started_at = clock_timestamp(),
    step_flags_version = crossfade_private.bump_version(),
    full_since = case when p.stage = 'rampdown' then p.full_since
      when new.percentage = 100 then clock_timestamp() end
  where p.name = new.pair
    -- enter_stage has made the step already.
    and coalesce(current_setting('crossfade.stepping', true), '') <> 'on';
  return null;
end $$;

comment on function crossfade_private.follow_percentage is
  'AFTER ROW trigger: another percentage is another step, whoever wrote it; more of version 2 is refused outside live (CF005) and while latched (CF006).';

create or replace trigger crossfade_before_hand
before update or delete on crossfade.pairs
for each row execute function crossfade_private.guard_pair();

create or replace trigger crossfade_before_hand
before update of percentage on crossfade.cohorts
for each statement execute function crossfade_private.lock_pairs();

create or replace trigger crossfade_after_first_percentage
after insert on crossfade.cohorts
for each row when (new.percentage > 0)
execute function crossfade_private.follow_percentage();

create or replace trigger crossfade_after_percentage
after update of percentage on crossfade.cohorts
for each row when (old.percentage is distinct from new.percentage)
execute function crossfade_private.follow_percentage();

-- stages/pausing.sql ------------------------------------------------------------------------------

-- A real pause of the mirror for an overloaded database.

create or replace function crossfade.set_mirror(pair text, mode text, reason text)
returns jsonb
language plpgsql volatile
security definer -- pairs are changed by functions only
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pair crossfade.pairs := crossfade_private.get_pair(pair);
  v_before text;
begin
  if mode is null or mode not in ('both', 'log_only') then
    perform crossfade_private.fail(400, 'CF012', format('Unknown mirror mode "%s"', mode),
      jsonb_build_object('mode', mode), 'Use both or log_only.');
  end if;
  perform crossfade_private.require_reason(reason,
    format('set the mirror of "%s" to %s', pair, mode));
  select p.* into v_pair from crossfade.pairs p where p.name = set_mirror.pair for no key update;
  if v_pair.stage not in ('dualwrite', 'shadow') then
    perform crossfade_private.fail(409, 'CF005',
      format('Cannot set the mirror of "%s" to %s: in stage %s users depend on it', pair, mode,
        v_pair.stage),
      jsonb_build_object('pair', pair, 'stage', v_pair.stage, 'blockers', jsonb_build_array(
        crossfade_private.blocker('stage', format('the stage is %s', v_pair.stage),
          'crossfade stage set PAIR shadow'))),
      'Go back to shadow first; that takes milliseconds.');
  end if;
  select m.mirror into v_before from crossfade_private.mirror_state m
    where m.pair = set_mirror.pair;
  if v_before = 'waiting' then
    perform crossfade_private.fail(409, 'CF005',
      format('Cannot set the mirror of "%s" to %s: it waits for pairs that its rows refer to', pair,
        mode),
      jsonb_build_object('pair', pair, 'blockers', (
        select jsonb_agg(crossfade_private.blocker('parent_backfill_needed',
          format('"%s" is not copied yet', u), format('crossfade backfill run %s', u)))
        from crossfade_private.uncopied_parents(v_pair, 'v1_to_v2') u)),
      format('crossfade group backfill %s', pair));
  end if;
  if v_before <> mode then
    update crossfade_private.mirror_state m set mirror = set_mirror.mode
      where m.pair = set_mirror.pair;
    perform crossfade_private.open_or_close(pair);
    perform crossfade_private.bump_version();
    perform crossfade_private.audit('pair.mirror', pair, reason,
      jsonb_build_object('mirror', v_before), jsonb_build_object('mirror', mode));
  end if;
  return jsonb_build_object('pair', pair, 'before', v_before, 'after', mode,
    'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.set_mirror is
  'Pause the mirror of a pair (log_only: writers only note the keys of changed rows, as open failures) or resume it (both; then call repair until nothing remains). Only in dualwrite and shadow (CF005): later, users read what is mirrored. CF001, CF007, CF012.';

-- stages/ignoring.sql -----------------------------------------------------------------------------

-- Objects that may go on depending on V1.

create or replace function crossfade.ignore_dependents(pair text, names text[], reason text)
returns jsonb
language plpgsql volatile
security definer -- pairs are changed by functions only
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pair crossfade.pairs := crossfade_private.get_pair(pair);
  v_before jsonb := coalesce(v_pair.options -> 'ignore_dependents', '[]');
  v_known text[] := array(select d.object from crossfade_private.v1_dependents(v_pair) d);
  v_unknown text;
  v_after jsonb;
begin
  perform crossfade_private.require_reason(reason,
    format('let objects depend on version 1 of "%s"', pair));
  select n into v_unknown from unnest(names) n where n <> all (v_known) limit 1;
  if v_unknown is not null then
    perform crossfade_private.fail(400, 'CF012',
      format('"%s" does not depend on version 1 of "%s"', v_unknown, pair),
      jsonb_build_object('pair', pair, 'name', v_unknown, 'known', to_jsonb(v_known)),
      format('Write the name as it stands in: crossfade plan %s', pair));
  end if;
  select p.* into v_pair from crossfade.pairs p where p.name = ignore_dependents.pair
  for no key update;
  -- No name at all takes every exception back.
  select case when cardinality(names) = 0 then '[]' else coalesce(jsonb_agg(distinct n), '[]') end
  into v_after
  from (select jsonb_array_elements_text(v_before) union select unnest(names)) q(n);
  update crossfade.pairs p
  set options = p.options || jsonb_build_object('ignore_dependents', v_after)
  where p.name = ignore_dependents.pair;
  perform crossfade_private.audit('pair.ignore', pair, reason,
    jsonb_build_object('ignore_dependents', v_before),
    jsonb_build_object('ignore_dependents', v_after));
  return jsonb_build_object('pair', pair, 'before', v_before, 'after', v_after, 'flags_version',
    crossfade.flags_version());
end $$;

comment on function crossfade.ignore_dependents is
  'Go on to complete although these objects depend on V1: names as crossfade plan shows them, added to those of before; an empty list takes all back: {"pair", "before", "after", "flags_version"}. CF001, CF007, CF012 for a name that depends on nothing.';

-- stages/write_rights.sql -------------------------------------------------------------------------

-- What a user may write, as the policies and grants of a table say it, as SQL that can be asked of
-- rows.

create or replace function crossfade_private.write_right_sql(
  tab regclass, role_name text, command_name text, of_new_row boolean
)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when not case command_name when 'delete' then has_table_privilege(role_name, tab, 'delete')
      else has_any_column_privilege(role_name, tab, command_name) end then 'false'
    when not c.relrowsecurity then 'true'
    -- One permissive policy must let the row pass, and every restrictive one.
    else (
      select format('coalesce((%s)%s, false)',
        coalesce(string_agg(q.expression, ' or ') filter (where p.permissive), 'false'),
        coalesce(' and ' || string_agg(q.expression, ' and ') filter (where not p.permissive), ''))
      from crossfade_private.write_policies(tab) p
      cross join lateral (
        select format('coalesce(%s, false)',
          coalesce(case when of_new_row then p.check_text else p.using_text end, 'true'))
          as expression
      ) q
      where p.command = command_name
        and (p.role = 'public' or pg_has_role(role_name, p.role, 'usage')))
    end
  from pg_catalog.pg_class c where c.oid = tab;
$$;

comment on function crossfade_private.write_right_sql is
  'An expression over a row of a table, under the table''s name, that says whether a role may insert, update or delete it (of_new_row: leave it behind); as that role.';

create or replace function crossfade_private.rights_of_rows_sql(
  tab regclass, role_name text, parameter integer, names text[], key_columns text[]
)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format(
    'select %s as key, array[%s, %s, %s, %s]::boolean[] as allowed from unnest($%s::%s[]) as %I',
    crossfade_private.key_to_json(names, tab, key_columns, quote_ident(c.relname)),
    crossfade_private.write_right_sql(tab, role_name, 'insert', true),
    crossfade_private.write_right_sql(tab, role_name, 'update', false),
    crossfade_private.write_right_sql(tab, role_name, 'update', true),
    crossfade_private.write_right_sql(tab, role_name, 'delete', false),
    parameter, tab, c.relname)
  from pg_catalog.pg_class c where c.oid = tab;
$$;

comment on function crossfade_private.rights_of_rows_sql is
  'A query over an array of rows: the key of each, and whether a role may insert it, update it, make it by an update, delete it.';

create or replace function crossfade_private.write_rights_sql(
  pair crossfade.pairs, role_name text
)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format(
    'select a.key, c.name as command, case when a.allowed[c.place] then 1 else 2 end as visible_in
    from (%s) a join (%s) b on b.key = a.key
    cross join (values (1, ''insert''), (2, ''update''), (3, ''update to''), (4, ''delete''))
      c(place, name)
    where a.allowed[c.place] <> b.allowed[c.place] limit 100',
    crossfade_private.rights_of_rows_sql(((pair).v1_table)::regclass, role_name, 1,
      (pair).key_columns, (pair).key_columns),
    crossfade_private.rights_of_rows_sql(((pair).v2_table)::regclass, role_name, 2,
      (pair).key_columns, (pair).v2_key_columns));
$$;

comment on function crossfade_private.write_rights_sql is
  'A query that lists what a role may write in one table only, of rows of V1 ($1) and their counterparts ($2), as text of arrays.';

create or replace function crossfade_private.visible_keys_sql(
  pair crossfade.pairs, role_name text
)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format('select coalesce(a.k, b.k) as key, ''select'' as command,
      case when b.k is null then 1 else 2 end as visible_in
    from (%s) a full join (%s) b on a.k = b.k
    where a.k is null or b.k is null limit 100', s.sides[1], s.sides[2])
  from (
    -- Who has no right to read sees nothing; asking would be an error.
    select array_agg(case when has_any_column_privilege(role_name, t.name::regclass, 'select')
      then format('select %s as k from %s cf_t',
        crossfade_private.key_to_json((pair).key_columns, t.name::regclass, t.key, 'cf_t'), t.name)
      else 'select null::jsonb as k where false' end order by t.side) as sides
    from (
      select 1 as side, (pair).v1_table as name, (pair).key_columns as key
      union all
      select 2, (pair).v2_table, (pair).v2_key_columns
    ) t
  ) s;
$$;

comment on function crossfade_private.visible_keys_sql is
  'A query that lists keys of which whoever asks it, acting as a role, sees only one side.';

create or replace function crossfade_private.row_pages_sql(pair crossfade.pairs)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select format(
    'select array_agg(q.a)::text, array_agg(q.b)::text
    from (select a, b, row_number() over () as place from %s a join %s b on %s) q
    group by (q.place - 1) / 1000', (pair).v1_table, (pair).v2_table, (
      select string_agg(format('a.%I = b.%I', k1, k2), ' and ')
      from unnest((pair).key_columns, (pair).v2_key_columns) u(k1, k2)));
$$;

comment on function crossfade_private.row_pages_sql is
  'A query that reads the rows of both tables by a thousand, as text of arrays.';

-- stages/visibility.sql ---------------------------------------------------------------------------

-- Comparing who may see and who may write what.

create or replace function crossfade.rls_questions(pair text)
returns jsonb
language plpgsql volatile
security definer -- the caller acts as an ordinary user by then and may not read the pair
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pair crossfade.pairs := crossfade_private.get_pair(pair);
begin
  -- What a call without the rest of the check, or another cluster, has left behind.
  delete from crossfade_private.rights_checks c
  where c.transaction_id < pg_snapshot_xmin(pg_current_snapshot())
    or c.transaction_id > pg_current_xact_id();
  insert into crossfade_private.rights_checks (transaction_id)
  values (pg_current_xact_id()) on conflict on constraint rights_checks_pkey do nothing;
  return (
    select jsonb_build_object('pages', crossfade_private.row_pages_sql(v_pair))
      || jsonb_object_agg(r.name, jsonb_build_object(
        'visible', crossfade_private.visible_keys_sql(v_pair, r.name),
        'writable', crossfade_private.write_rights_sql(v_pair, r.name)))
    from unnest(array['anon', 'authenticated']) r(name));
end $$;

comment on function crossfade.rls_questions is
  'Texts of the queries of check_rls: {"pages": rows of both tables, for each role {"visible", "writable"}}. Until the transaction ends or record_rls_check is called, my_backend keeps nobody from V2. CF001.';

create or replace function crossfade.record_rls_check(pair text, users integer, differences integer)
returns void
language sql volatile
security definer -- written by check_rls only
set search_path = pg_catalog, pg_temp
as $$
  delete from crossfade_private.rights_checks c where c.transaction_id = pg_current_xact_id();
  insert into crossfade.rls_checks as r (pair, users, differences)
  values (record_rls_check.pair, record_rls_check.users, record_rls_check.differences)
  on conflict on constraint rls_checks_pkey do update
  set at = clock_timestamp(), users = excluded.users, differences = excluded.differences;
$$;

comment on function crossfade.record_rls_check is 'Keep the outcome of check_rls.';

create or replace function crossfade.check_rls(pair text, user_ids jsonb)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_questions jsonb := crossfade.rls_questions(pair);
  v_role text := coalesce(current_setting('role', true), 'none');
  v_claims text := coalesce(current_setting('request.jwt.claims', true), '');
  v_user text;
  v_acting text;
  v_1 text;
  v_2 text;
  v_difference jsonb;
  v_found jsonb := '[]'::jsonb;
begin
  -- Invoker, because a SECURITY DEFINER function may not change its role: the policies are asked as
  -- the user they are written for. First what is visible, then what is writable, by the page.
  for v_1, v_2 in
    execute 'select null::text, null::text union all ' || format('select * from (%s) q',
      v_questions ->> 'pages')
  loop
    for v_user, v_acting in
      select u, 'authenticated' from jsonb_array_elements_text(user_ids) u
      union all select 'anon', 'anon'
    loop
      perform set_config('request.jwt.claims', json_build_object('sub', nullif(v_user, 'anon'),
        'role', v_acting)::text, true);
      perform set_config('role', v_acting, true);
      for v_difference in
        execute format('select to_jsonb(q) from (%s) q', v_questions -> v_acting
          ->> case when v_1 is null then 'visible' else 'writable' end)
        using v_1, v_2
      loop
        v_found := v_found || jsonb_build_array(
          jsonb_build_object('user_id', v_user) || v_difference);
      end loop;
      perform set_config('role', v_role, true);
      perform set_config('request.jwt.claims', v_claims, true);
    end loop;
    exit when jsonb_array_length(v_found) > 1000;
  end loop;
  perform crossfade.record_rls_check(
    pair, jsonb_array_length(user_ids), jsonb_array_length(v_found));
  return jsonb_build_object(
    'pair', pair, 'users', jsonb_array_length(user_ids), 'differences', v_found);
end $$;

comment on function crossfade.check_rls is
  'Ask the policies of both tables as each of these users (role authenticated) and as anon, which rows they see and which they may insert, update, make by an update ("update to") or delete: {"pair", "users", "differences": [{"user_id", "key", "command", "visible_in": 1|2, the table where it is allowed}]}, some hundred at most. A difference blocks stage live until a later check finds none. Reads both tables once a user. CF001; 42501 when the caller may not act as authenticated or read the tables.';

-- rollouts/plan_steps.sql -------------------------------------------------------------------------

-- Which steps of its plan a pair has reached. The step is never stored: it follows from stage and
-- percentage, so that no change by hand can contradict it.

create or replace function crossfade_private.step_order(stage text, percentage numeric)
returns numeric
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  -- In rampdown and complete everybody is on V2, whatever the cohort says.
  select crossfade_private.stage_number(step_order.stage) * 1000
    + case when step_order.stage in ('rampdown', 'complete', 'retired') then 100
      when step_order.stage = 'live' then step_order.percentage else 0 end;
$$;

comment on function crossfade_private.step_order is
  'A number that grows on the way from stage off to complete.';

create or replace function crossfade_private.reached_steps(
  plan jsonb, stage text, percentage numeric
)
returns integer
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(max(s.n), 0)::integer
  from jsonb_array_elements(reached_steps.plan -> 'steps') with ordinality s(value, n)
  where crossfade_private.step_order(s.value ->> 'stage', (s.value ->> 'percentage')::numeric)
    <= crossfade_private.step_order(reached_steps.stage, reached_steps.percentage);
$$;

comment on function crossfade_private.reached_steps is
  'How many steps of a plan a pair in this stage, at this percentage, has reached; 0 before the first.';

create or replace function crossfade_private.active_plan(pair text)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select r.plan from crossfade.rollouts r
  where r.pair = active_plan.pair and r.state not in ('aborted', 'finished');
$$;

comment on function crossfade_private.active_plan is 'The plan under way for a pair; null without one.';

create or replace function crossfade_private.flags_beyond(
  pair text, stage text, percentage numeric
)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with s as (
    select f.key as flag, f.value not in ('false', '0') as is_on,
      n > crossfade_private.reached_steps(a.plan, flags_beyond.stage, flags_beyond.percentage)
        as is_beyond
    from (select crossfade_private.active_plan(flags_beyond.pair) as plan) a
    cross join lateral jsonb_array_elements(a.plan -> 'steps') with ordinality e(value, n)
    cross join lateral jsonb_each(coalesce(e.value -> 'flags', '{}')) f
  )
  select s.flag from s where s.is_on
  group by s.flag having bool_and(s.is_beyond) order by s.flag;
$$;

comment on function crossfade_private.flags_beyond is
  'Flags that only steps beyond this point of the plan under way switch on.';

-- rollouts/plans.sql ------------------------------------------------------------------------------

-- What is a rollout plan.

create or replace function crossfade_private.bad_plan(step integer, field text, problem text)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  perform crossfade_private.fail(400, 'CF012',
    format('Invalid plan: %s%s %s',
      case when bad_plan.step is null then '' else 'step ' || bad_plan.step || ', ' end,
      bad_plan.field, bad_plan.problem),
    jsonb_build_object('step', bad_plan.step, 'field', bad_plan.field));
end $$;

comment on function crossfade_private.bad_plan is
  'Raise CF012 with the number of the step (from 1, null for the plan itself) and the field.';

create or replace function crossfade_private.check_plan_flags(place integer, flags jsonb)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_flag record;
begin
  if jsonb_typeof(flags) is distinct from 'object' then
    perform crossfade_private.bad_plan(place, 'flags', 'must be an object');
  end if;
  for v_flag in select f.key as name, f.value from jsonb_each(flags) f loop
    if not exists (select from crossfade.flags g where g.name = v_flag.name) then
      perform crossfade_private.fail(404, 'CF002',
        format('Invalid plan: step %s, unknown flag "%s"', place, v_flag.name),
        jsonb_build_object('step', place, 'flag', v_flag.name));
    elsif jsonb_typeof(v_flag.value) = 'number' then
      perform crossfade_private.check_percentage(v_flag.value);
    elsif jsonb_typeof(v_flag.value) <> 'boolean' then
      perform crossfade_private.bad_plan(place, 'flags', 'must be true, false or a percentage');
    end if;
  end loop;
end $$;

comment on function crossfade_private.check_plan_flags is
  'Refuse flags of a step that do not exist (CF002) or have another value than true, false or a percentage (CF004, CF012).';

create or replace function crossfade_private.check_plan_step(place integer, step jsonb)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_stage text := step ->> 'stage';
  v_wrong text;
begin
  if jsonb_typeof(step) is distinct from 'object' then
    perform crossfade_private.bad_plan(place, 'step', 'must be an object');
  end if;
  perform crossfade_private.check_percentage(step -> 'percentage');
  select f.field into v_wrong from (
    values
    (1, 'name', coalesce(btrim(step ->> 'name'), '') <> ''),
    (2, 'stage', v_stage in ('dualwrite', 'shadow', 'live', 'rampdown', 'complete')),
    (3, 'percentage', case when v_stage in ('dualwrite', 'shadow') then step -> 'percentage' = '0'
      when v_stage in ('rampdown', 'complete') then step -> 'percentage' = '100' else true end),
    (4, 'min_s', coalesce(step ->> 'min_s', '0') ~ '^[0-9]{1,9}(\.[0-9]+)?$'),
    (5, 'min_requests', coalesce(step ->> 'min_requests', '0') ~ '^[0-9]{1,9}$'),
    (6, 'max_extension_s', coalesce(step ->> 'max_extension_s', '0') ~ '^[0-9]{1,9}(\.[0-9]+)?$'),
    -- Version 1 becomes an archive: that is for a person to decide.
    (7, 'approval', coalesce(step ->> 'approval', 'auto') in ('auto', 'manual')
      and (v_stage <> 'complete' or step ->> 'approval' = 'manual')),
    (8, 'gates', jsonb_typeof(coalesce(step -> 'gates', '[]')) = 'array' and not exists (
      select from jsonb_array_elements_text(case jsonb_typeof(step -> 'gates')
        when 'array' then step -> 'gates' else '[]' end) g
      where g !~ '^R([1-9]|1[0-3])[sk]?$'))
  ) as f (place, field, valid)
  where f.valid is not true order by f.place limit 1;
  if found then
    perform crossfade_private.bad_plan(place, v_wrong,
      format('is invalid: %s', coalesce(step ->> v_wrong, 'null')));
  end if;
  perform crossfade_private.check_plan_flags(place, coalesce(step -> 'flags', '{}'));
end $$;

comment on function crossfade_private.check_plan_step is
  'Refuse a step that cannot be taken. dualwrite and shadow have percentage 0, rampdown and complete 100; complete needs approval manual. CF002, CF004, CF012.';

create or replace function crossfade_private.check_plan(plan jsonb)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_step record;
  v_before numeric := -1;
  v_order numeric;
begin
  if jsonb_typeof(plan) is distinct from 'object' or coalesce(btrim(plan ->> 'name'), '') = '' then
    perform crossfade_private.bad_plan(null, 'name', 'is missing');
  elsif jsonb_typeof(plan -> 'steps') is distinct from 'array'
    or jsonb_array_length(plan -> 'steps') not between 1 and 100 then
    perform crossfade_private.bad_plan(null, 'steps', 'must be a list of 1 to 100 steps');
  end if;
  for v_step in
    select s.value, s.n::integer as place
    from jsonb_array_elements(plan -> 'steps') with ordinality s(value, n) order by s.n
  loop
    perform crossfade_private.check_plan_step(v_step.place, v_step.value);
    v_order := crossfade_private.step_order(v_step.value ->> 'stage',
      (v_step.value ->> 'percentage')::numeric);
    if v_order <= v_before then
      perform crossfade_private.bad_plan(v_step.place, 'percentage',
        'must be above the step before, or its stage later');
    end if;
    v_before := v_order;
  end loop;
  if (select count(*) <> count(distinct s.value ->> 'name')
    from jsonb_array_elements(plan -> 'steps') s) then
    perform crossfade_private.bad_plan(null, 'steps', 'have the same name twice');
  end if;
end $$;

comment on function crossfade_private.check_plan is
  'Refuse a plan that cannot be followed; each step must be further than the one before. CF002, CF004, CF012 with detail.step and detail.field.';

-- rollouts/waits.sql ------------------------------------------------------------------------------

-- What a rollout waits for before its next step.

create or replace function crossfade_private.rollout_facts(
  pair crossfade.pairs, rollout crossfade.rollouts
)
returns table (
  steps integer, reached integer, current jsonb, next jsonb, elapsed_s numeric, requests bigint,
  counted text
)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_array_length((rollout_facts.rollout).plan -> 'steps'), k.reached,
    (rollout_facts.rollout).plan -> 'steps' -> (k.reached - 1),
    -- ->-1 would be the last one.
    (rollout_facts.rollout).plan -> 'steps' -> k.reached,
    -- A step begins when the pair got there, or when the plan found it there.
    round((extract(epoch from clock_timestamp() - greatest((rollout_facts.pair).step_started_at,
      (rollout_facts.rollout).started_at)) * (rollout_facts.rollout).speed)::numeric, 1),
    e.v2, e.kind
  from (
    select crossfade_private.reached_steps((rollout_facts.rollout).plan,
      (rollout_facts.pair).stage, c.percentage) as reached
    from crossfade.cohorts c where c.pair = (rollout_facts.pair).name
  ) k
  cross join crossfade_private.step_evidence(rollout_facts.pair) e;
$$;

comment on function crossfade_private.rollout_facts is
  'Where a pair stands in its plan: reached counts from 1 (0: before the first step), elapsed_s includes the rollout''s speed, requests are those of V2 in the whole step, or its users'' writes where no function reports (counted: requests or writes).';

create or replace function crossfade_private.wait_for(code text, message text)
returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object('code', wait_for.code, 'message', wait_for.message);
$$;

comment on function crossfade_private.wait_for is 'One thing a rollout waits for.';

create or replace function crossfade_private.person_waits(
  pair crossfade.pairs, rollout crossfade.rollouts, next jsonb
)
returns setof jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select w.wait from (
    select 1 as place, crossfade_private.wait_for((rollout).state,
      format('%s: %s', replace((rollout).state, '_', ' '), (rollout).reason)) as wait
    where (rollout).state <> 'running'
    union all
    select 2, crossfade_private.wait_for('latched', format(
      'rolled back automatically (%s); crossfade rollout rearm %s', (pair).latch_reason,
      (pair).name))
    where (pair).latched_at is not null
    union all
    select 3, crossfade_private.wait_for('kill_switch', format('kill switch %s is engaged', k))
    from jsonb_array_elements_text(crossfade_private.engaged_fences((pair).name)) k
    union all
    select 4, crossfade_private.wait_for('cool_down', format(
      'cooling down until %s after an automatic rollback', c.ends_at::timestamp(0)))
    from (
      select max(b.at) + make_interval(secs => (crossfade_private.setting_number(
        'rollout_cooldown_s') / (rollout).speed)::double precision) as ends_at
      from crossfade.rollbacks b where b.automatic and (
        b.scope = '*' or b.scope in (select crossfade_private.group_of((pair).name)))
    ) c
    where c.ends_at > clock_timestamp()
    union all
    select 5, crossfade_private.wait_for('approval', format(
      'a person approves step "%s": crossfade rollout approve %s', next ->> 'name', (pair).name))
    where next ->> 'approval' = 'manual' and not (next ->> 'name') = any ((rollout).approved)
  ) w order by w.place;
$$;

comment on function crossfade_private.person_waits is
  'What only a person can end: a hold, the latch, a kill switch, an approval; and the cool-down.';

create or replace function crossfade_private.gate_waits(pair crossfade.pairs, gates jsonb)
returns setof jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  with newest as (
    select distinct on (v.rule) v.rule, v.verdict, v.mode, v.details
    from crossfade.verdicts v
    where v.pair = (gate_waits.pair).name and v.at >= (gate_waits.pair).step_started_at
      and v.at > clock_timestamp() - make_interval(secs => greatest(60,
        4 * crossfade_private.setting_number('monitor_interval_s'))::double precision)
    order by v.rule, v.id desc
  )
  select crossfade_private.wait_for('verdict', case
    when n.rule is null then 'no fresh verdict: is crossfade monitor running?'
    else format('%s says %s: %s', n.rule, n.verdict, n.details ->> 'message') end)
  from newest n
  full join (
    -- Whoever evaluates the rules stores this one, and R13 cannot be switched off.
    select case when crossfade_private.setting('rule_modes') ->> 'R3' = 'off' then 'R13'
      else 'R3' end as rule
  ) needed on n.rule = needed.rule
  where n.rule is null or (n.mode = 'enforce' and n.verdict <> 'PASS'
    and (gate_waits.gates = '[]' or gate_waits.gates ? n.rule))
  order by n.rule;
end $$;

comment on function crossfade_private.gate_waits is
  'Rules whose newest verdict in this step objects; no verdict at all, or only old ones, is no consent. gates []: every enforced rule.';

create or replace function crossfade_private.rollout_waits(
  pair crossfade.pairs, rollout crossfade.rollouts, automatic boolean
)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with f as materialized (
    select * from crossfade_private.rollout_facts(rollout_waits.pair, rollout_waits.rollout)
  ),
  -- The pairs that would change stage with it; to ask what is in their way is not cheap.
  moving as materialized (
    select o as pair
    from f
    cross join crossfade_private.group_of((rollout_waits.pair).name) with ordinality g(name, n)
    join crossfade.pairs o on o.name = g.name
    where f.next is not null and f.next ->> 'stage' <> (rollout_waits.pair).stage
      and crossfade_private.stage_number(o.stage)
        <= crossfade_private.stage_number((rollout_waits.pair).stage)
    order by g.n
  ),
  waits as (
    select 1 as place, w as wait from f
    cross join lateral crossfade_private.person_waits(
      rollout_waits.pair, rollout_waits.rollout, f.next) w
    union all
    select 2, crossfade_private.wait_for('monitor',
      case when m.heartbeat_at is null then 'no monitor runs'
      else format('the monitor has been silent since %s', m.heartbeat_at::timestamp(0)) end)
    from crossfade.monitors m
    where rollout_waits.automatic and coalesce(m.heartbeat_at < clock_timestamp()
      - crossfade_private.setting_number('r12_dead_s') * interval '1 s', true)
    union all
    select 3, crossfade_private.wait_for('time',
      format('%s of %s s on this step', f.elapsed_s, f.current ->> 'min_s'))
    from f where f.elapsed_s < (f.current ->> 'min_s')::numeric
    union all
    select 4, crossfade_private.wait_for('requests',
      format('%s of %s V2 %s on this step', f.requests, f.current ->> 'min_requests', f.counted))
    from f where f.requests < (f.current ->> 'min_requests')::bigint
    union all
    select 5, w from f
    cross join lateral crossfade_private.gate_waits(
      rollout_waits.pair, coalesce(f.current -> 'gates', '[]')) w
    where f.reached > 0
    union all
    select 6, crossfade_private.wait_for('stage', case
        when (m.pair).name = (rollout_waits.pair).name then b ->> 'message'
        else format('"%s": %s', (m.pair).name, b ->> 'message') end)
      || jsonb_build_object('pair', (m.pair).name, 'blocker', b ->> 'code', 'hint', b ->> 'hint')
    from moving m
    cross join lateral crossfade_private.own_blockers(m.pair,
      crossfade_private.next_stage((rollout_waits.pair).stage)) b
    -- On the way through live the percentage rises first.
    where b ->> 'code' <> 'percentage' or (m.pair).name <> (rollout_waits.pair).name
  )
  select coalesce(jsonb_agg(w.wait order by w.place), '[]') from waits w;
$$;

comment on function crossfade_private.rollout_waits is
  'Everything the next step waits for: [{"code", "message"}], with "pair", "blocker" and "hint" where a stage of that pair of the group is waited for; [] when it may be taken now. automatic: a living monitor is needed as well.';

-- rollouts/rollouts.sql ---------------------------------------------------------------------------

-- A rollout under way: showing it, changing its state.

create or replace function crossfade_private.active_rollout(pair text)
returns crossfade.rollouts
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_row crossfade.rollouts;
begin
  select r.* into v_row from crossfade.rollouts r
  where r.pair = active_rollout.pair and r.state not in ('aborted', 'finished');
  if not found then
    perform crossfade_private.fail(409, 'CF023',
      format('No rollout is under way for "%s"', active_rollout.pair),
      jsonb_build_object('pair', active_rollout.pair), 'crossfade rollout start PAIR');
  end if;
  return v_row;
end $$;

comment on function crossfade_private.active_rollout is
  'The rollout under way for a pair; CF023 without one.';

create or replace function crossfade_private.rollout_json(pair text, automatic boolean default true)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'pair', p.name, 'stage', p.stage, 'percentage', c.percentage, 'step', p.step,
    'latched', p.latched_at is not null, 'rollout', to_jsonb(r) - 'plan' - 'pair',
    'plan', r.plan, 'steps', f.steps, 'reached', f.reached, 'current', f.current, 'next', f.next,
    'elapsed_s', f.elapsed_s, 'requests', f.requests,
    'waits', case when r.state in ('aborted', 'finished') then '[]'
      else crossfade_private.rollout_waits(p, r, rollout_json.automatic) end,
    'flags_version', crossfade.flags_version())
  from crossfade.pairs p
  join crossfade.cohorts c on c.pair = p.name
  left join lateral (
    select o.* from crossfade.rollouts o where o.pair = p.name order by o.id desc limit 1
  ) r on true
  left join lateral crossfade_private.rollout_facts(p, r) f on r.id is not null
  where p.name = rollout_json.pair;
$$;

comment on function crossfade_private.rollout_json is 'What rollout_status answers.';

create or replace function crossfade.rollout_status(pair text)
returns jsonb
language plpgsql stable
security definer -- API roles hold no right on crossfade_private
set search_path = pg_catalog, pg_temp
as $$
begin
  perform crossfade_private.get_pair(pair);
  return crossfade_private.rollout_json(pair);
end $$;

comment on function crossfade.rollout_status is
  'The newest rollout of a pair and where it stands: {"pair", "stage", "percentage", "step", "latched", "rollout": {id, state, speed, reason, approved, ...} or null, "plan", "steps", "reached", "current", "next", "elapsed_s", "requests", "waits": [{"code", "message"}], "flags_version"}. Waits [] while running: the next step may be taken. CF001.';

create or replace function crossfade_private.put_rollout(
  rollout crossfade.rollouts, state text, reason text
)
returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  update crossfade.rollouts r
  set state = put_rollout.state, reason = put_rollout.reason, changed_at = clock_timestamp(),
    changed_by = crossfade_private.actor(),
    -- What was approved before something broke has to be approved again.
    approved = case when put_rollout.state = 'rolled_back' then '{}' else r.approved end,
    extended_at = case when put_rollout.state = 'running' then clock_timestamp()
      else r.extended_at end,
    finished_at = case when put_rollout.state in ('aborted', 'finished') then clock_timestamp() end
  where r.id = (put_rollout.rollout).id and r.state <> put_rollout.state;
  if not found then
    return false;
  end if;
  perform crossfade_private.bump_version();
  perform crossfade_private.audit('rollout.' || state, (rollout).pair, reason,
    jsonb_build_object('state', (rollout).state), jsonb_build_object('state', state));
  return true;
end $$;

comment on function crossfade_private.put_rollout is
  'Change the state of a rollout, audited; false when it has it already.';

create or replace function crossfade_private.approve_step(
  rollout crossfade.rollouts, step text, next jsonb
)
returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_names text[] := array(
    select s ->> 'name' from jsonb_array_elements((rollout).plan -> 'steps') s
    where s ->> 'approval' = 'manual'
      and (approve_step.step = '*' or s ->> 'name' = coalesce(approve_step.step, next ->> 'name')));
begin
  if v_names = '{}' then
    perform crossfade_private.fail(400, 'CF012',
      format('No step "%s" that a person approves', coalesce(step, next ->> 'name')),
      jsonb_build_object('field', 'step', 'value', step, 'known', (
        select jsonb_agg(s ->> 'name') from jsonb_array_elements((rollout).plan -> 'steps') s
        where s ->> 'approval' = 'manual')),
      'Leave the step out to approve the next one.');
  elsif (rollout).approved @> v_names then
    return false;
  end if;
  update crossfade.rollouts r
  set approved = array(select distinct a from unnest(r.approved || v_names) a order by a)
  where r.id = (rollout).id;
  perform crossfade_private.bump_version();
  perform crossfade_private.audit('rollout.approve', (rollout).pair, null,
    to_jsonb((rollout).approved), to_jsonb(v_names));
  return true;
end $$;

comment on function crossfade_private.approve_step is
  'Approve a manual step by name, the next one (null) or all of them (*). CF012.';

-- rollouts/starting.sql ---------------------------------------------------------------------------

-- Starting a rollout.

create or replace function crossfade.start_rollout(
  pair text, plan jsonb, reason text, speed numeric default 1
)
returns jsonb
language plpgsql volatile
security definer -- rollouts are changed by functions only
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pair crossfade.pairs := crossfade_private.get_pair(pair);
  v_row crossfade.rollouts;
begin
  perform crossfade_private.require_reason(reason, format('start a rollout of "%s"', pair));
  perform crossfade_private.check_plan(plan);
  if speed is null or speed not between 1 and 1000000 then
    perform crossfade_private.fail(400, 'CF012', format('Invalid speed %s', speed),
      jsonb_build_object('field', 'speed', 'value', speed), 'Use 1 to 1000000.');
  end if;
  -- Order matters: the pair's row first, as everywhere.
  perform 1 from crossfade.pairs p where p.name = start_rollout.pair for no key update;
  select r.* into v_row from crossfade.rollouts r
  where r.pair = start_rollout.pair and r.state not in ('aborted', 'finished');
  if found and v_row.plan = start_rollout.plan and v_row.speed = start_rollout.speed then
    return crossfade_private.rollout_json(pair) || '{"already": true}';
  elsif found then
    perform crossfade_private.fail(409, 'CF024',
      format('A rollout of "%s" by plan "%s" is under way', pair, v_row.plan ->> 'name'),
      jsonb_build_object('pair', pair, 'plan', v_row.plan ->> 'name', 'state', v_row.state),
      'Follow it, or end it first: crossfade rollout abort PAIR --keep.');
  elsif v_pair.latched_at is not null then
    perform crossfade_private.fail(409, 'CF006',
      format('Cannot start a rollout of "%s": it was rolled back automatically (%s)', pair,
        v_pair.latch_reason),
      jsonb_build_object('pair', pair, 'latch_reason', v_pair.latch_reason),
      'Find the cause, then crossfade rollout rearm PAIR --reason "...".');
  end if;
  insert into crossfade.rollouts (pair, plan, speed, reason)
  values (start_rollout.pair, start_rollout.plan, start_rollout.speed, start_rollout.reason)
  returning * into v_row;
  perform crossfade_private.bump_version();
  perform crossfade_private.audit('rollout.start', pair, reason, null,
    jsonb_build_object('plan', plan ->> 'name', 'speed', speed));
  return crossfade_private.rollout_json(pair) || '{"already": false}';
end $$;

comment on function crossfade.start_rollout is
  'Begin to follow a plan; nothing moves yet, advance_rollout does. Starting the same plan again while it is under way changes nothing ("already": true). speed: time runs so many times faster, for rehearsals. Returns rollout_status and "already". CF001, CF002, CF004, CF006 latched, CF007, CF012 with step and field, CF024 another plan is under way.';

-- rollouts/advance.sql ----------------------------------------------------------------------------

-- Following a plan. Widening is one function that compares before it sets, so that two controllers
-- or operators cannot take a step twice, and nothing but this file widens by itself.

create or replace function crossfade_private.enter_step(
  pair crossfade.pairs, step jsonb, reason text
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_stages text[] := crossfade_private.stages();
  v_flag record;
begin
  -- Flags first: whoever the step lets in finds them as the step wants them.
  for v_flag in select f.key as name, f.value from jsonb_each(step -> 'flags') f order by f.key loop
    perform crossfade.set_flag(v_flag.name, case jsonb_typeof(v_flag.value)
      when 'number' then jsonb_build_object('enabled', true, 'percentage', v_flag.value)
      when 'boolean' then jsonb_build_object('enabled', v_flag.value)
        || case when v_flag.value = 'true' then '{"percentage": 100}' else '{}' end::jsonb
      end, reason);
  end loop;
  for v_place in crossfade_private.stage_number((pair).stage) + 1
    .. crossfade_private.stage_number(step ->> 'stage')
  loop
    if v_stages[v_place] = 'rampdown' then
      perform crossfade.set_cohort((pair).name, '{"percentage": 100}', reason);
    end if;
    -- A plan opens the stages of its pair's group, too: none of it may be overtaken.
    perform crossfade_private.move_pairs(array(
        select g.name from crossfade_private.group_of((pair).name) with ordinality g(name, n)
        join crossfade.pairs p on p.name = g.name
          and crossfade_private.stage_number(p.stage) < v_place
        order by g.n), v_stages[v_place], reason, true, false);
  end loop;
  if step ->> 'stage' = 'live' then
    perform crossfade.set_cohort((pair).name,
      jsonb_build_object('percentage', step -> 'percentage'), reason);
  end if;
end $$;

comment on function crossfade_private.enter_step is
  'Set flags, stage and percentage of a step through set_flag, set_cohort and, for the whole group, move_pairs, with their refusals (CF005, CF006).';

create or replace function crossfade_private.may_give_up(
  pair crossfade.pairs, rollout crossfade.rollouts, waits jsonb
)
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select (rollout).state = 'running'
    and not exists (
      select from jsonb_array_elements(waits) w
      where w ->> 'code' in ('approval', 'kill_switch', 'cool_down', 'monitor', 'time'))
    and f.reached > 0 and f.current ? 'max_extension_s'
    and extract(epoch from clock_timestamp() - greatest((pair).step_started_at,
      (rollout).started_at, (rollout).extended_at)) * (rollout).speed
      > coalesce((f.current ->> 'min_s')::numeric, 0) + (f.current ->> 'max_extension_s')::numeric
  from crossfade_private.rollout_facts(pair, rollout) f;
$$;

comment on function crossfade_private.may_give_up is
  'Whether a step has waited for requests, verdicts or blockers longer than its max_extension_s.';

create or replace function crossfade.advance_rollout(
  pair text, expected_step bigint, automatic boolean default true, reason text default null
)
returns jsonb
language plpgsql volatile
security definer -- the only way a rollout goes forward
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pair crossfade.pairs := crossfade_private.get_pair(pair);
  v_row crossfade.rollouts;
  v_next jsonb;
  v_waits jsonb;
  v_why text;
  v_advanced boolean := false;
begin
  perform crossfade_private.lock_control(false, array[pair]);
  select p.* into v_pair from crossfade.pairs p where p.name = advance_rollout.pair;
  v_row := crossfade_private.active_rollout(pair);
  if v_pair.step is distinct from expected_step then
    -- Somebody else moved the pair: what the caller decided on is no longer so.
    return crossfade_private.rollout_json(pair, automatic)
      || '{"advanced": false, "stale": true}';
  end if;
  v_waits := crossfade_private.rollout_waits(v_pair, v_row, automatic);
  select f.next into v_next from crossfade_private.rollout_facts(v_pair, v_row) f;
  v_why := coalesce(nullif(btrim(reason), ''),
    format('plan "%s": %s', v_row.plan ->> 'name', coalesce(v_next ->> 'name', 'the end')));
  if v_waits <> '[]' then
    if automatic and crossfade_private.may_give_up(v_pair, v_row, v_waits) then
      perform crossfade_private.set_reason(v_why);
      perform crossfade_private.put_rollout(v_row, 'held', format('the extension is over: %s',
        v_waits -> 0 ->> 'message'));
    end if;
  else
    perform crossfade_private.set_reason(v_why);
    v_advanced := true;
    if v_next is null then
      perform crossfade_private.put_rollout(v_row, 'finished', 'the plan is done');
    else
      perform crossfade_private.enter_step(v_pair, v_next, v_why);
      perform crossfade_private.bump_version();
      perform crossfade_private.audit('rollout.advance', pair, v_why,
        jsonb_build_object('stage', v_pair.stage, 'step', v_pair.step),
        v_next || jsonb_build_object('automatic', automatic));
    end if;
  end if;
  return crossfade_private.rollout_json(pair, automatic)
    || jsonb_build_object('advanced', v_advanced, 'stale', false);
end $$;

comment on function crossfade.advance_rollout is
  'Take the next step of the plan if nothing stands against it. expected_step is the "step" the caller has seen: when the pair has moved since, nothing happens ("stale": true), so two callers never take two steps. automatic: also needs a living monitor; a step that waits beyond its max_extension_s is held for a person. Returns rollout_status with "advanced" and "stale". CF001, CF005, CF006, CF023.';

-- rollouts/change_sets.sql ------------------------------------------------------------------------

-- Change sets: several changes of flags, cohorts and kill switches as one transaction.

create or replace function crossfade_private.check_change_set(changes jsonb)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_bad jsonb;
begin
  if jsonb_typeof(changes) is distinct from 'array' then
    perform crossfade_private.fail(400, 'CF012', 'Changes must be a JSON array', '{}');
  end if;
  select c.value into v_bad from jsonb_array_elements(changes) c
  where jsonb_typeof(c.value) <> 'object'
    or coalesce(c.value ->> 'kind', '') not in ('flag', 'cohort', 'kill_switch')
    or coalesce(c.value ->> 'action', '') not in ('create', 'change', 'delete')
    or c.value ->> 'kind' = 'cohort' and c.value ->> 'action' <> 'change'
    or jsonb_typeof(c.value -> 'name') is distinct from 'string'
    or c.value ->> 'action' <> 'delete'
      and jsonb_typeof(c.value -> 'changes') is distinct from 'object'
  limit 1;
  if found then
    perform crossfade_private.fail(
      400, 'CF012', format('Not a change: %s', left(v_bad::text, 200)),
      jsonb_build_object('change', v_bad),
      'Each is {"kind": flag, cohort or kill_switch, "name", "action": create, change or delete, "changes"}.');
  end if;
end $$;

comment on function crossfade_private.check_change_set is
  'Refuse (CF012) what is no list of changes. The values are checked when they are applied.';

create or replace function crossfade_private.change_switch(change jsonb)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_name text := change ->> 'name';
  v_fields jsonb := coalesce(change -> 'changes', '{}');
  v_row crossfade.kill_switches;
begin
  -- Never engaged or released by a file: that is what engage and release are for.
  perform crossfade_private.check_changes(v_name, v_fields - 'pair', '{
    "description": "string", "fences": "boolean", "overrides_all": "boolean"}');
  if coalesce(jsonb_typeof(v_fields -> 'pair'), 'null') not in ('string', 'null') then
    perform crossfade_private.fail(
      400, 'CF012', format('Cannot change "%s": pair must be a string or null', v_name),
      jsonb_build_object('field', 'pair', 'value', v_fields -> 'pair'));
  end if;
  select k.* into v_row from crossfade.kill_switches k where k.name = v_name;
  if not found and change ->> 'action' <> 'create' then
    perform crossfade_private.fail(
      404, 'CF003', format('Unknown kill switch "%s"', v_name),
      jsonb_build_object('kill_switch', v_name));
  end if;
  if v_row.engaged then
    perform crossfade_private.fail(
      400, 'CF012', format('Cannot change "%s": it is engaged', v_name),
      jsonb_build_object('kill_switch', v_name), 'Release it first.');
  end if;
  -- An edit of a definition stops nobody, so that it need not wait for writers.
  perform set_config('crossfade.fence', 'not needed', true);
  if change ->> 'action' = 'delete' then
    delete from crossfade.kill_switches k where k.name = v_name;
  elsif v_row.name is null then
    insert into crossfade.kill_switches (name, description, fences, overrides_all, pair)
    values (v_name, coalesce(v_fields ->> 'description', ''),
      coalesce((v_fields ->> 'fences')::boolean, false),
      coalesce((v_fields ->> 'overrides_all')::boolean, false), v_fields ->> 'pair');
  else
    v_row := jsonb_populate_record(v_row, v_fields);
    update crossfade.kill_switches k
    set description = v_row.description, fences = v_row.fences,
      overrides_all = v_row.overrides_all, pair = v_row.pair
    where k.name = v_name;
  end if;
  perform set_config('crossfade.fence', '', true);
end $$;

comment on function crossfade_private.change_switch is
  'Create, change or delete the definition of a kill switch that is not engaged. CF003, CF012.';

create or replace function crossfade_private.apply_change(change jsonb, reason text)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_name text := change ->> 'name';
begin
  if change ->> 'kind' = 'cohort' then
    perform crossfade.set_cohort(v_name, change -> 'changes', reason);
  elsif change ->> 'kind' = 'kill_switch' then
    perform crossfade_private.change_switch(change);
  elsif change ->> 'action' = 'delete' then
    delete from crossfade.flags f where f.name = v_name;
    if not found then
      perform crossfade_private.fail(
        404, 'CF002', format('Unknown flag "%s"', v_name), jsonb_build_object('flag', v_name));
    end if;
  else
    perform crossfade.set_flag(v_name, case change ->> 'action'
      when 'create' then change -> 'changes' || '{"create": true}' else change -> 'changes' end,
      reason);
  end if;
end $$;

comment on function crossfade_private.apply_change is
  'Do one change. CF001 CF002 CF003, and what set_flag and set_cohort raise.';

create or replace function crossfade_private.apply_change_set(changes jsonb, reason text)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_change jsonb;
begin
  -- Order matters: pairs by name, then the control row. See before_control_change.
  perform crossfade_private.lock_control(false, array(
    select c ->> 'name' from jsonb_array_elements(changes) c where c ->> 'kind' = 'cohort'));
  perform crossfade_private.set_reason(reason);
  for v_change in
    select c.value from jsonb_array_elements(changes) with ordinality c (value, place)
    order by c.place
  loop
    perform crossfade_private.apply_change(v_change, reason);
  end loop;
end $$;

comment on function crossfade_private.apply_change_set is
  'Do all changes in their order, or none.';

create or replace function crossfade.apply_changes(
  changes jsonb, reason text, expected_version bigint default null
)
returns jsonb
language plpgsql volatile
-- Definer: as set_flag.
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform crossfade_private.require_reason(reason, 'apply changes');
  perform crossfade_private.check_change_set(changes);
  perform crossfade_private.lock_control(false, array(
    select c ->> 'name' from jsonb_array_elements(changes) c where c ->> 'kind' = 'cohort'));
  if expected_version <> crossfade.flags_version() then
    perform crossfade_private.fail(
      409, 'CF025',
      format('Cannot apply the changes: flags have changed since version %s', expected_version),
      jsonb_build_object('expected', expected_version, 'found', crossfade.flags_version()),
      'Look at the difference again, then repeat.');
  end if;
  perform crossfade_private.apply_change_set(changes, reason);
  return jsonb_build_object(
    'applied', jsonb_array_length(changes), 'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.apply_changes is
  'Apply a list of {"kind": flag|cohort|kill_switch, "name", "action": create|change|delete, "changes": {field: value}} in one transaction: all or nothing. expected_version: refuse (CF025) when flags have changed since it was read. Kill switches are defined, never engaged or released. Returns {"applied", "flags_version"}. CF007, CF012, and what set_flag and set_cohort raise.';

-- rollouts/scheduled_changes.sql ------------------------------------------------------------------

-- Change sets that wait for their time.

create or replace function crossfade.schedule_changes(
  changes jsonb, due_at timestamptz, reason text
)
returns jsonb
language plpgsql volatile
-- Definer: as set_flag.
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_row crossfade.scheduled_changes;
begin
  perform crossfade_private.require_reason(reason, 'schedule changes');
  perform crossfade_private.check_change_set(changes);
  if due_at is null or due_at = any ('{infinity,-infinity}'::timestamptz[])
    or due_at < clock_timestamp() - interval '1 minute' then
    perform crossfade_private.fail(
      400, 'CF012', format('Cannot schedule changes for %s: it is over', due_at),
      jsonb_build_object('due_at', due_at, 'now', clock_timestamp()));
  end if;
  insert into crossfade.scheduled_changes (due_at, changes, reason, created_by)
  values (schedule_changes.due_at, schedule_changes.changes, schedule_changes.reason,
    crossfade_private.actor())
  returning * into v_row;
  perform crossfade_private.audit(
    'schedule.create', v_row.id::text, reason, null, to_jsonb(v_row));
  return jsonb_build_object(
    'scheduled', to_jsonb(v_row), 'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.schedule_changes is
  'Apply a change set (see apply_changes) at a time: by the monitor, or by pg_cron after crossfade monitor drive. The values are checked then. Returns {"scheduled": row, "flags_version"}. CF007 no reason, CF012 no change set or a time that is over.';

create or replace function crossfade.cancel_changes(id bigint, reason text)
returns jsonb
language plpgsql volatile
-- Definer: as set_flag.
security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_row crossfade.scheduled_changes;
begin
  perform crossfade_private.require_reason(reason, format('cancel scheduled changes %s', id));
  select s.* into v_row from crossfade.scheduled_changes s
  where s.id = cancel_changes.id for update;
  if not found then
    perform crossfade_private.fail(
      404, 'CF026', format('Unknown scheduled changes %s', cancel_changes.id),
      jsonb_build_object('id', cancel_changes.id), 'See: crossfade flags schedules');
  end if;
  if v_row.state in ('applied', 'refused') then
    perform crossfade_private.fail(
      404, 'CF026', format('Scheduled changes %s are %s already', v_row.id, v_row.state),
      jsonb_build_object('id', v_row.id, 'state', v_row.state));
  end if;
  if v_row.state = 'pending' then
    update crossfade.scheduled_changes s set state = 'cancelled', done_at = clock_timestamp()
    where s.id = v_row.id returning s.* into v_row;
    perform crossfade_private.audit(
      'schedule.cancel', v_row.id::text, reason, null, to_jsonb(v_row));
  end if;
  return jsonb_build_object(
    'scheduled', to_jsonb(v_row), 'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.cancel_changes is
  'Take back scheduled changes; no error when they were cancelled before. CF007, CF026 unknown or done already.';

-- rollouts/due_changes.sql ------------------------------------------------------------------------

-- Applying a change set when its time has come.

create or replace function crossfade_private.raises_flag(flag crossfade.flags, changes jsonb)
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select n.enabled and (
    not flag.enabled
    or coalesce(n.percentage, 0) > coalesce(flag.percentage, 0)
    or n.default_value and not flag.default_value
    or not n.allow_user_ids <@ flag.allow_user_ids
    or not n.allow_agent_ids <@ flag.allow_agent_ids
    or not flag.deny_user_ids <@ n.deny_user_ids
    or not flag.deny_agent_ids <@ n.deny_agent_ids
    or not flag.killed_by <@ n.killed_by
    or not flag.prerequisites <@ n.prerequisites)
  from jsonb_populate_record(flag, changes - 'create') n;
$$;

comment on function crossfade_private.raises_flag is
  'Whether the changes may turn a flag on for somebody who does not have it.';

create or replace function crossfade_private.apply_scheduled(scheduled crossfade.scheduled_changes)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_latched text;
  v_code text;
  v_detail text;
  v_message text;
begin
  -- A block of its own: whatever refuses it takes back all of its changes and nothing else.
  begin
    perform crossfade_private.lock_control(false, array(select p.name from crossfade.pairs p));
    select p.name into v_latched from crossfade.pairs p
    where p.latched_at is not null order by p.name limit 1;
    if v_latched is not null and exists (
      select from jsonb_array_elements((scheduled).changes) c
      left join crossfade.flags f on f.name = c ->> 'name'
      where c ->> 'kind' = 'flag' and c ->> 'action' <> 'delete'
        and (f.name is null or crossfade_private.raises_flag(f, c -> 'changes'))) then
      -- Nobody is watching when it acts, and what went wrong may be this very flag.
      perform crossfade_private.fail(
        409, 'CF006',
        format('Cannot raise a flag by schedule: "%s" was rolled back automatically', v_latched),
        jsonb_build_object('pair', v_latched));
    end if;
    perform crossfade_private.apply_change_set(
      (scheduled).changes, format('%s (scheduled by %s)', (scheduled).reason,
        (scheduled).created_by));
  exception when others then
    get stacked diagnostics v_detail = pg_exception_detail, v_message = message_text;
    v_code := coalesce(substring(v_detail from '"code": "(\w+)"'), sqlstate);
    return jsonb_build_object('state', 'refused',
      'outcome', jsonb_build_object('code', v_code, 'message', v_message));
  end;
  return jsonb_build_object('state', 'applied',
    'outcome', jsonb_build_object('flags_version', crossfade.flags_version()));
end $$;

comment on function crossfade_private.apply_scheduled is
  'Apply one scheduled change set: {"state": applied or refused, "outcome"}. Refused (CF006) when it raises a flag while a pair is latched.';

create or replace function crossfade.apply_due_changes()
returns jsonb
language plpgsql volatile
-- Definer: as set_flag.
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_row crossfade.scheduled_changes;
  v_done jsonb;
  v_all jsonb := '[]'::jsonb;
begin
  for v_row in
    -- Exactly once: the row stays locked until its new state is committed with what it did.
    select s.* from crossfade.scheduled_changes s
    where s.state = 'pending' and s.due_at <= clock_timestamp()
    order by s.due_at, s.id
    for update skip locked
  loop
    v_done := crossfade_private.apply_scheduled(v_row);
    update crossfade.scheduled_changes s
    set state = v_done ->> 'state', outcome = v_done -> 'outcome', done_at = clock_timestamp()
    where s.id = v_row.id
    returning s.* into v_row;
    perform crossfade_private.audit(
      'schedule.' || v_row.state, v_row.id::text, v_row.reason, null, to_jsonb(v_row));
    v_all := v_all || to_jsonb(v_row);
  end loop;
  return jsonb_build_object('done', v_all, 'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.apply_due_changes is
  'Apply the change sets whose time has come, each all or nothing and exactly once however many callers there are; one that is refused is marked so and not tried again. Returns {"done": [row], "flags_version"}. What the monitor and the pg_cron job call.';

-- rollback/snapshots.sql --------------------------------------------------------------------------

-- Snapshots: the control state saved whole.

create or replace function crossfade_private.control_state()
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'flags_version', crossfade.flags_version(),
    'wal_lsn', pg_catalog.pg_current_wal_lsn()::text,
    'flags', (select coalesce(jsonb_agg(to_jsonb(f) order by f.name), '[]') from crossfade.flags f),
    'kill_switches', (
      select coalesce(jsonb_agg(to_jsonb(k) order by k.name), '[]') from crossfade.kill_switches k),
    'cohorts', (
      select coalesce(jsonb_agg(to_jsonb(c) order by c.pair), '[]') from crossfade.cohorts c),
    'pairs', (
      select coalesce(jsonb_agg(to_jsonb(p) || jsonb_build_object(
        'v1_rows', (
          select r.reltuples::bigint from pg_catalog.pg_class r
          where r.oid = to_regclass(p.v1_table)),
        'v2_rows', (
          select r.reltuples::bigint from pg_catalog.pg_class r
          where r.oid = to_regclass(p.v2_table)),
        'open_failures', (
          select count(*) from crossfade.mirror_failures m
          where m.pair = p.name and m.resolved_at is null)
      ) order by p.name), '[]')
      from crossfade.pairs p));
$$;

comment on function crossfade_private.control_state is 'What a snapshot saves. Reads only.';

create or replace function crossfade_private.save_snapshot(reason text)
returns jsonb
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  insert into crossfade.snapshots (actor, reason, state)
  values (crossfade_private.actor(), save_snapshot.reason, crossfade_private.control_state())
  returning jsonb_build_object('id', id, 'at', at, 'actor', actor, 'reason', reason);
$$;

comment on function crossfade_private.save_snapshot is
  'Insert a snapshot and return {"id", "at", "actor", "reason"}.';

create or replace function crossfade.take_snapshot(reason text)
returns jsonb
language plpgsql volatile
-- Definer: API roles hold no right on the tables it writes.
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_snapshot jsonb;
begin
  perform crossfade_private.require_reason(take_snapshot.reason, 'take a snapshot');
  v_snapshot := crossfade_private.save_snapshot(take_snapshot.reason);
  perform crossfade_private.audit('snapshot.insert', v_snapshot ->> 'id', null, null, null);
  return jsonb_build_object('snapshot', v_snapshot, 'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.take_snapshot is
  'Save flags, cohorts, kill switches and pairs as they are now. Returns {"snapshot": {id, at, actor, reason}, "flags_version"}. CF007 no reason.';

-- rollback/restoring_parts.sql --------------------------------------------------------------------

-- Bringing back the parts of a snapshot: switches, flags, cohorts, pairs.

create or replace function crossfade_private.restore_switches(
  snapshot crossfade.snapshots, reason text
)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_switch record;
  v_kept jsonb := '[]'::jsonb;
begin
  for v_switch in
    select k.name, s.engaged as wanted,
      -- Engaged by the rollback that took this snapshot: undoing it is what is asked for.
      -- Whatever somebody else engaged later is a decision this snapshot knows nothing of.
      s.engaged or exists (
        select from crossfade.rollbacks r
        where r.snapshot = snapshot.id
          and (r.after -> k.name ->> 'engaged_at')::timestamptz = k.engaged_at) as known
    from crossfade.kill_switches k
    join jsonb_populate_recordset(
      null::crossfade.kill_switches, snapshot.state -> 'kill_switches') s on s.name = k.name
    where k.engaged <> s.engaged
    -- Fences first, as everywhere: see before_control_change.
    order by k.fences desc, k.name
  loop
    if v_switch.known then
      perform crossfade_private.switch_kill(v_switch.name, v_switch.wanted, reason);
    else
      v_kept := v_kept || to_jsonb(v_switch.name);
    end if;
  end loop;
  return v_kept;
end $$;

comment on function crossfade_private.restore_switches is
  'Engage what the snapshot has engaged. Release only what the rollback of this very snapshot engaged and nobody has engaged again; the names of other engaged switches are returned and stay engaged.';

create or replace function crossfade_private.restore_flags(snapshot crossfade.snapshots)
returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  insert into crossfade.flags as f (
    name, description, enabled, percentage, default_value, cohort_key, allow_user_ids,
    allow_agent_ids, deny_user_ids, deny_agent_ids, prerequisites, killed_by)
  select s.name, s.description, s.enabled, s.percentage, s.default_value, s.cohort_key,
    s.allow_user_ids, s.allow_agent_ids, s.deny_user_ids, s.deny_agent_ids,
    s.prerequisites, s.killed_by
  from jsonb_populate_recordset(null::crossfade.flags, restore_flags.snapshot.state -> 'flags') s
  order by s.name
  on conflict (name) do update
  set description = excluded.description, enabled = excluded.enabled,
    percentage = excluded.percentage, default_value = excluded.default_value,
    cohort_key = excluded.cohort_key,
    allow_user_ids = excluded.allow_user_ids, allow_agent_ids = excluded.allow_agent_ids,
    deny_user_ids = excluded.deny_user_ids, deny_agent_ids = excluded.deny_agent_ids,
    prerequisites = excluded.prerequisites, killed_by = excluded.killed_by;
$$;

comment on function crossfade_private.restore_flags is
  'Bring the flags of a snapshot back, deleted ones too. Flags that were added later stay as they are.';

create or replace function crossfade_private.restore_cohort(wanted crossfade.cohorts, reason text)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_cohort crossfade.cohorts;
begin
  select c.* into v_cohort from crossfade.cohorts c where c.pair = wanted.pair;
  update crossfade.cohorts c
  set cohort_key = wanted.cohort_key, enabled_user_ids = wanted.enabled_user_ids,
    enabled_agent_ids = wanted.enabled_agent_ids, denied_user_ids = wanted.denied_user_ids,
    denied_agent_ids = wanted.denied_agent_ids
  where c.pair = wanted.pair;
  if v_cohort.percentage <> wanted.percentage then
    perform crossfade.set_cohort(
      wanted.pair, jsonb_build_object('percentage', wanted.percentage), restore_cohort.reason);
  end if;
end $$;

comment on function crossfade_private.restore_cohort is
  'Make the cohort of a pair equal to a saved one, the percentage through set_cohort''s own checks.';

create or replace function crossfade_private.restore_pair(
  pair text, wanted_stage text, cohort crossfade.cohorts, reason text
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_stages text[] := crossfade_private.stages();
  v_at integer := array_position(v_stages, (crossfade_private.get_pair(pair)).stage);
  v_wanted integer := array_position(v_stages, wanted_stage);
begin
  if v_wanted < v_at then
    perform crossfade_private.move_pairs(array[pair], wanted_stage, reason, false, false);
  end if;
  -- Forward one stage at a time, so that every precondition is asked. The cohort belongs to live.
  for v_next in v_at + 1 .. v_wanted loop
    if v_stages[v_next] = 'rampdown' then
      perform crossfade_private.restore_cohort(cohort, reason);
    end if;
    -- The snapshot answers for the group.
    perform crossfade_private.move_pairs(array[pair], v_stages[v_next], reason, true, false);
  end loop;
  perform crossfade_private.restore_cohort(cohort, reason);
end $$;

comment on function crossfade_private.restore_pair is
  'Bring stage and cohort of a pair back on the paths of set_stage and set_cohort, with their refusals but those of its group, for which restore_snapshot looks at the end (CF005, CF006).';

-- rollback/restoring.sql --------------------------------------------------------------------------

-- Bringing a snapshot back.

create or replace function crossfade.restore_snapshot(id bigint, reason text)
returns jsonb
language plpgsql volatile
-- Definer: API roles hold no right on the tables it writes.
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_snapshot crossfade.snapshots;
  v_previous jsonb;
  v_kept jsonb;
  v_pair record;
  v_before crossfade.pairs[];
begin
  perform crossfade_private.require_reason(
    restore_snapshot.reason, format('restore snapshot %s', restore_snapshot.id));
  select s.* into v_snapshot from crossfade.snapshots s where s.id = restore_snapshot.id;
  if not found then
    perform crossfade_private.fail(
      404, 'CF014', format('Unknown snapshot %s', restore_snapshot.id),
      jsonb_build_object('snapshot', restore_snapshot.id));
  end if;
  perform crossfade_private.lock_control(
    exists (
      select from crossfade.kill_switches k
      join jsonb_populate_recordset(
        null::crossfade.kill_switches, v_snapshot.state -> 'kill_switches') s on s.name = k.name
      where k.fences and s.engaged and not k.engaged),
    array(select p.name from crossfade.pairs p));
  v_previous := crossfade_private.save_snapshot(
    format('before restoring snapshot %s: %s', restore_snapshot.id, restore_snapshot.reason));
  v_kept := crossfade_private.restore_switches(v_snapshot, restore_snapshot.reason);
  perform crossfade_private.restore_flags(v_snapshot);
  v_before := array(select p from crossfade.pairs p);
  for v_pair in
    select s.name, s.stage, c as cohort
    from jsonb_populate_recordset(null::crossfade.pairs, v_snapshot.state -> 'pairs') s
    join crossfade.pairs p on p.name = s.name
    join jsonb_populate_recordset(null::crossfade.cohorts, v_snapshot.state -> 'cohorts') c
      on c.pair = s.name
    order by s.name
  loop
    perform crossfade_private.restore_pair(
      v_pair.name, v_pair.stage, v_pair.cohort, restore_snapshot.reason);
  end loop;
  -- Not before all are where they were: pairs that joined the group later are not in the snapshot.
  perform crossfade_private.check_group_way_back(b, p.stage)
  from unnest(v_before) b join crossfade.pairs p on p.name = b.name
  where crossfade_private.stage_number(p.stage) < crossfade_private.stage_number(b.stage);
  perform crossfade_private.audit('snapshot.restore', v_snapshot.id::text, null, v_previous, null);
  return jsonb_build_object(
    'snapshot', to_jsonb(v_snapshot) - 'state', 'previous', v_previous,
    'kept_kill_switches', v_kept, 'skipped_pairs', (
      select coalesce(jsonb_agg(s.value ->> 'name' order by s.value ->> 'name'), '[]')
      from jsonb_array_elements(v_snapshot.state -> 'pairs') s
      where not exists (select from crossfade.pairs p where p.name = s.value ->> 'name')),
    'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.restore_snapshot is
  'Make flags, cohorts, kill switches and stages what they were, in one transaction, all or nothing. Takes a snapshot first ("previous"), so it can be undone. A switch engaged after the snapshot stays engaged (kept_kill_switches) unless the rollback that took this snapshot engaged it. Stages and percentages go through set_stage and set_cohort and are refused like there: CF005 preconditions, CF006 latched (rearm first). Flags added and pairs registered later stay, pairs removed since are skipped (skipped_pairs); settings are not restored. CF007 no reason, CF014 unknown snapshot.';

-- rollback/plan.sql -------------------------------------------------------------------------------

-- Rollback: one transaction that moves reads back. It never touches data, and dual write stays on.

create or replace function crossfade_private.previous_step(pair text, percentage numeric)
returns numeric
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with a as (select crossfade_private.active_plan(previous_step.pair) as plan)
  select coalesce(max(s.percentage), 0)
  from (
    select (e ->> 'percentage')::numeric as percentage
    from a cross join lateral jsonb_array_elements(a.plan -> 'steps') e
    union all
    select t.value::numeric
    from a cross join lateral jsonb_array_elements_text(
      crossfade_private.setting('rollout_steps')) t
    where a.plan is null
  ) s
  where s.percentage < previous_step.percentage;
$$;

comment on function crossfade_private.previous_step is
  'The largest percentage below this one among the steps of the plan under way, else of setting rollout_steps; 0 below the first one.';

create or replace function crossfade_private.plan_pair(level text, pair crossfade.pairs)
returns table (place integer, action text, object text, before jsonb, after jsonb)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_percentage numeric := coalesce(
    (select trim_scale(c.percentage) from crossfade.cohorts c
     where c.pair = (plan_pair.pair).name), 0);
  v_stage text := (plan_pair.pair).stage;
  v_to_stage text := v_stage;
  v_to_percentage numeric := 0;
begin
  -- Complete has no instant way back: V1 is an archive. An emergency can still stop its flags.
  if v_stage in ('complete', 'retired') then
    return;
  end if;
  if level = 'PARTIAL' then
    -- In rampdown everybody is on V2 whatever the percentage says: the step before is in live.
    v_to_percentage := crossfade_private.previous_step((plan_pair.pair).name,
      case v_stage when 'rampdown' then 100 else v_percentage end);
    v_to_stage := case v_stage when 'rampdown' then 'live' else v_stage end;
  elsif v_stage in ('live', 'rampdown') then
    v_to_stage := 'shadow';
  end if;
  return query
  select v.* from (
    values
    (2, 'set_stage', (plan_pair.pair).name,
      jsonb_build_object('stage', v_stage), jsonb_build_object('stage', v_to_stage)),
    (3, 'set_percentage', (plan_pair.pair).name,
      jsonb_build_object('percentage', v_percentage),
      jsonb_build_object('percentage', v_to_percentage))
  ) as v (place, action, object, before, after)
  where v.before <> v.after;
  if level = 'PARTIAL' then
    -- The step before had not switched these on: one of them may be what broke.
    return query
    select 1, 'disable_flag', f.name, '{"enabled": true}'::jsonb, '{"enabled": false}'::jsonb
    from crossfade_private.flags_beyond((plan_pair.pair).name, v_to_stage, v_to_percentage) b
    join crossfade.flags f on f.name = b and f.enabled;
  end if;
end $$;

comment on function crossfade_private.plan_pair is
  'What a PARTIAL, COMPLETE or EMERGENCY rollback changes on one pair; no row when there is nothing to do.';

create or replace function crossfade_private.rollback_pairs(level text, scope text)
returns setof crossfade.pairs
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select p.* from crossfade.pairs p
  where case when rollback_pairs.level = 'FEATURE' then p.gate_flag = rollback_pairs.scope
    else rollback_pairs.scope = '*'
      or p.name in (select crossfade_private.group_of(rollback_pairs.scope)) end
  order by p.name;
$$;

comment on function crossfade_private.rollback_pairs is
  'Pairs a rollback is about: the named one and those of its group, all of them for *, those gated by the flag for FEATURE.';

create or replace function crossfade_private.rollback_plan(
  level text, scope text, reason text, automatic boolean
)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with steps as (
    select 1 as place, 'engage_kill_switch' as action, k.name as object,
      '{"engaged": false}'::jsonb as before, '{"engaged": true}'::jsonb as after
    from crossfade.kill_switches k
    where rollback_plan.level = 'EMERGENCY' and k.name = 'emergency_rollback' and not k.engaged
    union all
    select 1, 'disable_flag', f.name, '{"enabled": true}', '{"enabled": false}'
    from crossfade.flags f
    where rollback_plan.level = 'FEATURE' and f.name = rollback_plan.scope and f.enabled
    union all
    select s.*
    from crossfade_private.rollback_pairs(rollback_plan.level, rollback_plan.scope) p
    cross join lateral crossfade_private.plan_pair(rollback_plan.level, p) s
    where rollback_plan.level <> 'FEATURE'
    union all
    select 4, 'latch', p.name, '{"latched": false}',
      jsonb_build_object('latched', true, 'latch_reason', rollback_plan.reason)
    from crossfade_private.rollback_pairs(rollback_plan.level, rollback_plan.scope) p
    where rollback_plan.automatic and p.latched_at is null
  )
  select coalesce(jsonb_agg(jsonb_build_object(
    'action', s.action, 'object', s.object, 'before', s.before, 'after', s.after)
    order by s.place, s.object), '[]')
  from steps s;
$$;

comment on function crossfade_private.rollback_plan is
  'Changes that a rollback would make now, in the order they are made: [{"action": engage_kill_switch|disable_flag|set_stage|set_percentage|latch, "object", "before", "after"}]; [] when that state is reached already.';

create or replace function crossfade_private.check_rollback(level text, scope text)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pair crossfade.pairs;
begin
  if level is null or level not in ('FEATURE', 'PARTIAL', 'COMPLETE', 'EMERGENCY') then
    perform crossfade_private.fail(
      400, 'CF012', format('Unknown rollback level "%s"', level),
      jsonb_build_object('level', level), 'Levels: FEATURE, PARTIAL, COMPLETE, EMERGENCY.');
  elsif level = 'FEATURE' then
    if not exists (select from crossfade.flags f where f.name = scope) then
      perform crossfade_private.fail(
        404, 'CF002', format('Unknown flag "%s"', scope), jsonb_build_object('flag', scope));
    end if;
  elsif scope is distinct from '*' then
    v_pair := crossfade_private.get_pair(scope);
    if v_pair.stage in ('complete', 'retired') and level <> 'EMERGENCY' then
      perform crossfade_private.fail(
        409, 'CF005',
        format('Cannot roll "%s" back: stage %s has no instant way back to version 1', scope,
          v_pair.stage),
        jsonb_build_object('pair', scope, 'stage', v_pair.stage, 'blockers', jsonb_build_array(
          crossfade_private.blocker('archived', 'V1 is a read-only archive', ''))),
        'In stage complete run a reverse backfill and a clean verify, then set it to rampdown.');
    end if;
  end if;
end $$;

comment on function crossfade_private.check_rollback is
  'Refuse an unknown level (CF012), flag (CF002) or pair (CF001), and a pair in stage complete (CF005; EMERGENCY still engages its switch).';

-- rollback/preserving.sql -------------------------------------------------------------------------

-- What a rollback keeps: the rows that only V2 has.

create or replace function crossfade_private.unmirrored_rows(pair crossfade.pairs, side integer)
returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_table regclass;
  v_condition text;
  v_rows jsonb;
begin
  -- In here and not in declare: the table may be gone, and only the block's errors are caught.
  v_table := case side when 1 then (pair).v1_table else (pair).v2_table end::regclass;
  -- Cast to the column's type, so that each row is found by its index.
  select string_agg(
    format('t.%I = (f.key ->> %L)::%s',
      k.side_name, k.key_name, format_type(a.atttypid, a.atttypmod)), ' and ')
  into v_condition
  from unnest(
    (pair).key_columns, case side when 1 then (pair).key_columns else (pair).v2_key_columns end
  ) k(key_name, side_name)
  join pg_catalog.pg_attribute a on a.attrelid = v_table and a.attname = k.side_name;
  execute format($sql$
    select coalesce(jsonb_agg(
      jsonb_build_object('failure', to_jsonb(f), 'row', to_jsonb(t)) order by f.id), '[]')
    from (
      select m.* from crossfade.mirror_failures m
      where m.pair = $1 and m.written_side = $2 and m.resolved_at is null
      order by m.id limit 1000
    ) f
    left join %s t on %s$sql$, v_table, v_condition)
  into v_rows using (pair).name, side;
  return v_rows;
exception when others then
  -- Keeping a copy is a precaution: nothing is deleted, and a rollback must not fail for it.
  return jsonb_build_array(jsonb_build_object('error', sqlerrm));
end $$;

comment on function crossfade_private.unmirrored_rows is
  'Open mirror failures of one side with the row that only this side holds (null: it was deleted), at most 1000. Never raises: an error becomes [{"error"}].';

create or replace function crossfade_private.preserve(pairs crossfade.pairs[])
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_object_agg(f.name, jsonb_build_object(
    'open_failures', f.open_failures, 'rows', f.kept,
    'truncated', f.open_failures > jsonb_array_length(f.kept))), '{}')
  from (
    select p.name, n.open_failures,
      crossfade_private.unmirrored_rows(p, 1) || crossfade_private.unmirrored_rows(p, 2) as kept
    from unnest(preserve.pairs) p
    cross join lateral (
      select count(*) as open_failures from crossfade.mirror_failures m
      where m.pair = p.name and m.resolved_at is null
    ) n
    where n.open_failures > 0
  ) f;
$$;

comment on function crossfade_private.preserve is
  'What one table of a pair holds alone: pair -> {"open_failures", "rows", "truncated"}; {} when nothing is open.';

-- rollback/run.sql --------------------------------------------------------------------------------

-- Carrying a rollback out.

create or replace function crossfade_private.apply_rollback_step(step jsonb, reason text)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_object text := step ->> 'object';
begin
  case step ->> 'action'
    when 'engage_kill_switch' then
      perform crossfade_private.switch_kill(v_object, true, reason);
    when 'disable_flag' then
      update crossfade.flags f set enabled = false where f.name = v_object;
    when 'set_stage' then
      perform crossfade.set_stage(v_object, step -> 'after' ->> 'stage', reason);
    when 'set_percentage' then
      perform crossfade.set_cohort(v_object, step -> 'after', reason);
    when 'latch' then
      update crossfade.pairs p
      set latched_at = clock_timestamp(), latch_reason = apply_rollback_step.reason
      where p.name = v_object;
  end case;
end $$;

comment on function crossfade_private.apply_rollback_step is 'Make one change of a rollback plan.';

create or replace function crossfade_private.plan_values(plan jsonb, field text)
returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_object_agg(o.object, o.fields), '{}')
  from (
    select s.value ->> 'object' as object, jsonb_object_agg(e.key, e.value) as fields
    from jsonb_array_elements(plan_values.plan) s
    cross join lateral jsonb_each(s.value -> plan_values.field) e
    group by s.value ->> 'object'
  ) o;
$$;

comment on function crossfade_private.plan_values is
  'The before or after values of a plan: object -> {field: value}.';

create or replace function crossfade_private.run_rollback(
  level text, scope text, reason text, automatic boolean, plan jsonb
)
returns crossfade.rollbacks
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pairs crossfade.pairs[] := array(
    select p from crossfade_private.rollback_pairs(level, scope) p);
  v_row crossfade.rollbacks;
  v_step jsonb;
begin
  v_row.snapshot := (crossfade_private.save_snapshot(
    format('before %s rollback of %s: %s', level, scope, reason)) ->> 'id')::bigint;
  v_row.preserved := crossfade_private.preserve(v_pairs);
  for v_step in
    select s.value from jsonb_array_elements(plan) with ordinality s(value, n) order by s.n
  loop
    perform crossfade_private.apply_rollback_step(v_step, reason);
  end loop;
  v_row.after := crossfade_private.plan_values(plan, 'after');
  -- restore_snapshot releases exactly this engagement and no later one.
  select v_row.after || coalesce(jsonb_object_agg(k.name, v_row.after -> k.name
    || jsonb_build_object('engaged_at', k.engaged_at)), '{}')
  into v_row.after
  from jsonb_array_elements(plan) s
  join crossfade.kill_switches k on k.name = s.value ->> 'object'
  where s.value ->> 'action' = 'engage_kill_switch';
  insert into crossfade.rollbacks (
    actor, level, scope, reason, automatic, before, after, snapshot, flags_version, preserved)
  values (
    crossfade_private.actor(), run_rollback.level, run_rollback.scope, run_rollback.reason,
    run_rollback.automatic, crossfade_private.plan_values(plan, 'before'), v_row.after,
    v_row.snapshot, crossfade.flags_version(), v_row.preserved)
  returning * into v_row;
  perform crossfade_private.audit(
    'rollback.' || lower(level), scope, reason, v_row.before, v_row.after);
  perform crossfade_private.broadcast('rollback', jsonb_build_object(
    'flags_version', v_row.flags_version, 'pair', p.name, 'level', run_rollback.level))
  from unnest(v_pairs) p;
  return v_row;
end $$;

comment on function crossfade_private.run_rollback is
  'Snapshot, keep what is unmirrored, make the changes of the plan, log, audit, broadcast "rollback" for each pair.';

-- rollback/rollback.sql ---------------------------------------------------------------------------

-- Rolling back, and arming again afterwards.

create or replace function crossfade.rollback(
  level text, scope text, reason text,
  automatic boolean default false, dry_run boolean default false,
  expected_step bigint default null
)
returns jsonb
language plpgsql volatile
-- Definer: API roles hold no right on the tables it writes.
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_plan jsonb;
  v_done crossfade.rollbacks;
begin
  perform crossfade_private.check_rollback(level, scope);
  if not dry_run then
    perform crossfade_private.require_reason(rollback.reason, 'roll back');
    perform crossfade_private.lock_control(
      level = 'EMERGENCY' and exists (
        select from crossfade.kill_switches k
        where k.name = 'emergency_rollback' and not k.engaged),
      array(select p.name from crossfade_private.rollback_pairs(level, scope) p));
  end if;
  v_plan := crossfade_private.rollback_plan(level, scope, rollback.reason, automatic);
  -- Somebody has moved the pair since the caller looked: going back again would be once too often.
  if exists (
    select from crossfade.pairs p
    where p.name = rollback.scope and p.step <> rollback.expected_step) then
    v_plan := '[]';
  end if;
  if not dry_run and v_plan <> '[]' then
    v_done := crossfade_private.run_rollback(level, scope, rollback.reason, automatic, v_plan);
  end if;
  return jsonb_build_object(
    'level', level, 'scope', scope, 'plan', v_plan, 'dry_run', dry_run, 'snapshot', v_done.snapshot,
    'rollback', v_done.id, 'flags_version', crossfade.flags_version(),
    'committed_at', case when not dry_run then clock_timestamp() end);
end $$;

comment on function crossfade.rollback is
  'Go back in one transaction. level: FEATURE (scope = flag: off), PARTIAL (scope = pair: the step before; rampdown goes to live first), COMPLETE (pair: live and rampdown go to shadow, percentage 0), EMERGENCY (COMPLETE and engage emergency_rollback). A pair brings the others of its group with it; scope * = every pair. Data is not touched and dual write stays on. automatic: latch the pairs until rearm. expected_step: the "step" the caller has seen; when the pair has moved since, the plan is empty. dry_run: only the plan, nothing is written or locked. Repeating it is safe: the plan is empty and snapshot and rollback are null. Returns {"level", "scope", "plan": [{action, object, before, after}], "dry_run", "snapshot", "rollback", "flags_version", "committed_at"}. CF001, CF002, CF005 stage complete, CF007 no reason, CF012.';

create or replace function crossfade.rearm(pair text, reason text)
returns jsonb
language plpgsql volatile
-- Definer: pairs are changed by functions only.
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pairs text[];
begin
  perform crossfade_private.get_pair(pair);
  perform crossfade_private.require_reason(rearm.reason, format('rearm "%s"', rearm.pair));
  v_pairs := array(select crossfade_private.group_of(pair));
  perform crossfade_private.lock_control(false, v_pairs);
  update crossfade.pairs p set latched_at = null, latch_reason = null
  where p.name = any (v_pairs) and p.latched_at is not null;
  perform crossfade_private.put_rollout(r, 'running', rearm.reason)
  from crossfade.rollouts r where r.pair = any (v_pairs) and r.state = 'rolled_back';
  return jsonb_build_object('pair', rearm.pair, 'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.rearm is
  'Allow a pair and the rest of its group to go forward again after an automatic rollback; a rollout that was rolled back goes on from the step the pair is at. Safe to repeat. Returns {"pair", "flags_version"}. CF001, CF007 no reason.';

-- rollback/rollout_guards.sql ---------------------------------------------------------------------

-- A rollout yields to whoever goes back: a person, a rollback, a restored snapshot.

create or replace function crossfade_private.yield_to_rollback()
returns trigger
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  perform crossfade_private.put_rollout(
    r, case when new.automatic then 'rolled_back' else 'held' end, new.reason)
  from crossfade.rollouts r
  where r.state not in ('aborted', 'finished')
    and r.pair in (
      select p.name from crossfade_private.rollback_pairs(new.level, new.scope) p);
  return null;
end $$;

comment on function crossfade_private.yield_to_rollback is
  'Trigger: a rollback ends the widening, until rearm after an automatic one, until resume after one by a person.';

create or replace function crossfade_private.yield_to_step_back()
returns trigger
language plpgsql volatile
security definer -- a hand edit of a cohort comes from a role that may not change rollouts
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pair text := coalesce(to_jsonb(new) ->> 'pair', to_jsonb(new) ->> 'name');
begin
  perform crossfade_private.put_rollout(r, 'held',
    coalesce(crossfade_private.reason(), 'somebody went back by hand'))
  from crossfade.rollouts r where r.pair = v_pair and r.state = 'running';
  return null;
end $$;

comment on function crossfade_private.yield_to_step_back is
  'Trigger: stage or percentage went back, so the plan holds until a person resumes it.';

create or replace trigger crossfade_after_rollback
after insert on crossfade.rollbacks
for each row execute function crossfade_private.yield_to_rollback();

create or replace trigger crossfade_after_stage_back
after update of stage on crossfade.pairs
for each row
when (
  crossfade_private.stage_number(new.stage) < crossfade_private.stage_number(old.stage)
)
execute function crossfade_private.yield_to_step_back();

create or replace trigger crossfade_after_percentage_back
after update of percentage on crossfade.cohorts
for each row when (new.percentage < old.percentage)
execute function crossfade_private.yield_to_step_back();

-- rollback/rollout_control.sql --------------------------------------------------------------------

-- Steering a rollout. Here, because to abort one is to roll back.

create or replace function crossfade.control_rollout(
  pair text, action text, reason text, step text default null, keep boolean default false
)
returns jsonb
language plpgsql volatile
security definer -- rollouts are changed by functions only
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pair crossfade.pairs := crossfade_private.get_pair(pair);
  v_row crossfade.rollouts;
  v_changed boolean := false;
begin
  perform crossfade_private.require_reason(reason, format('%s the rollout of "%s"', action, pair));
  -- Order matters: fence, pair, control row, then the rollout.
  perform crossfade_private.lock_control(false, array[pair]);
  select p.* into v_pair from crossfade.pairs p where p.name = control_rollout.pair;
  v_row := crossfade_private.active_rollout(pair);
  if action = 'hold' then
    v_changed := v_row.state = 'running' and crossfade_private.put_rollout(v_row, 'held', reason);
  elsif action = 'resume' then
    if v_pair.latched_at is not null then
      perform crossfade_private.fail(409, 'CF006',
        format('Cannot resume the rollout of "%s": it was rolled back automatically (%s)', pair,
          v_pair.latch_reason),
        jsonb_build_object('pair', pair, 'latch_reason', v_pair.latch_reason),
        'Find the cause, then crossfade rollout rearm PAIR --reason "...".');
    end if;
    v_changed := crossfade_private.put_rollout(v_row, 'running', reason);
  elsif action = 'approve' then
    v_changed := crossfade_private.approve_step(v_row, step,
      (select f.next from crossfade_private.rollout_facts(v_pair, v_row) f));
  elsif action = 'abort' then
    if not keep and v_pair.stage in ('live', 'rampdown') then
      perform crossfade.rollback('COMPLETE', pair, reason);
    end if;
    v_changed := crossfade_private.put_rollout(v_row, 'aborted', reason);
  else
    perform crossfade_private.fail(400, 'CF012', format('Unknown action "%s"', action),
      jsonb_build_object('field', 'action', 'value', action), 'hold, resume, approve or abort.');
  end if;
  return crossfade_private.rollout_json(pair) || jsonb_build_object('changed', v_changed);
end $$;

comment on function crossfade.control_rollout is
  'hold: nothing advances until somebody resumes; the rules go on. resume. approve: a manual step, the next one unless step names it (* = all). abort: end the plan and, unless keep, take all users back to V1 in the same transaction (rollback COMPLETE). Safe to repeat ("changed": false). Returns rollout_status and "changed". CF001, CF006, CF007, CF012, CF023 no rollout is under way.';

-- rollback/self_watch.sql -------------------------------------------------------------------------

-- Watching without Python (R12): where pg_cron is installed, a job of it evaluates the rules of
-- health/judging.sql whenever no monitor is alive, and goes back by itself. It never goes forward.

create or replace function crossfade_private.watch_pair(pair text)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_sample jsonb := crossfade.health_sample(pair);
  v_verdicts jsonb;
  v_level text;
  v_reason text;
begin
  v_verdicts := crossfade_private.judge(v_sample,
    (
      select coalesce(jsonb_object_agg(l.rule,
        jsonb_build_object('at', l.at, 'since', l.details -> 'since')), '{}')
      from (
        select distinct on (o.rule) o.rule, o.at, o.details from crossfade.verdicts o
        where o.pair = watch_pair.pair and o.rule in ('R1', 'R1s', 'R1k', 'R12')
        order by o.rule, o.id desc
      ) l),
    (select jsonb_object_agg(s.name, s.value) from crossfade.settings s));
  perform crossfade.record_verdicts(pair, v_verdicts);
  select max(v ->> 'level'),  -- EMERGENCY comes after COMPLETE, by luck of the alphabet
    string_agg(format('%s: %s', v ->> 'rule', v #>> '{details,message}'), '; ')
  into v_level, v_reason
  from jsonb_array_elements(v_verdicts) v
  where v ->> 'verdict' = 'FAIL' and v ->> 'mode' = 'enforce';
  if v_level is null or v_sample ->> 'stage' not in ('live', 'rampdown') then
    return jsonb_build_object('pair', pair, 'verdicts', v_verdicts, 'rollback', null);
  end if;
  return jsonb_build_object('pair', pair, 'verdicts', v_verdicts, 'rollback',
    crossfade.rollback(v_level, pair, 'watched by pg_cron: ' || v_reason, true, false,
      (v_sample ->> 'step')::bigint));
end $$;

comment on function crossfade_private.watch_pair is
  'Evaluate one pair as the monitor would, with the rules that SQL has, and go back when they say so.';

create or replace function crossfade_private.watch_once()
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pair text;
  v_done jsonb := '[]'::jsonb;
begin
  if (select m.heartbeat_at from crossfade.monitors m) >= clock_timestamp()
    - crossfade_private.setting_number('r12_dead_s') * interval '1 s' then
    return jsonb_build_object('idle', true, 'pairs', v_done);
  end if;
  perform crossfade.apply_due_changes();
  for v_pair in
    select p.name from crossfade.pairs p where p.stage in ('live', 'rampdown') order by p.name
  loop
    begin
      v_done := v_done || crossfade_private.watch_pair(v_pair);
    exception when others then
      -- One pair that cannot be judged must not keep the others from being watched.
      raise warning 'crossfade: cannot watch %: % (%)', v_pair, sqlerrm, sqlstate;
    end;
  end loop;
  return jsonb_build_object('idle', false, 'pairs', v_done);
end $$;

comment on function crossfade_private.watch_once is
  'One evaluation of every pair that serves V2, unless a monitor is alive (setting r12_dead_s).';

create or replace function crossfade_private.watch_command(seconds integer)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  -- A DO block for the same reason as in crossfade_private.drive_command.
  select format($command$do $watch$
declare
  v_until timestamptz := pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => %s);
  v_interval interval;
begin
  loop
    perform crossfade_private.watch_once();
    commit;
    v_interval := pg_catalog.make_interval(
      secs => crossfade_private.setting_number('monitor_interval_s')::double precision);
    exit when pg_catalog.clock_timestamp() + v_interval > v_until;
    perform pg_catalog.pg_sleep(extract(epoch from v_interval)::double precision);
    commit;
  end loop;
end $watch$;
$command$, seconds);
$$;

comment on function crossfade_private.watch_command is
  'What the pg_cron job executes: evaluations every monitor_interval_s for about so many seconds. Outside a transaction only.';

create or replace function crossfade_private.unschedule_watch()
returns boolean
language plpgsql volatile
security definer -- pg_cron shows a job only to the role that scheduled it
set search_path = pg_catalog, pg_temp
as $$
declare
  v_jobs bigint := 0;
begin
  if crossfade_private.has_cron() then
    execute 'select count(cron.unschedule(j.jobid)) from cron.job j where j.jobname = $1
      and j.username = current_user'
    into v_jobs using 'crossfade_monitor';
  end if;
  return v_jobs > 0;
end $$;

comment on function crossfade_private.unschedule_watch is
  'Remove the job that watches; false when there is none.';

create or replace function crossfade.drive_monitor(enabled boolean default true)
returns jsonb
language plpgsql volatile
security definer -- the job must belong to the owner, who may judge and go back
set search_path = pg_catalog, pg_temp
as $$
begin
  if enabled and not crossfade_private.has_cron() then
    perform crossfade_private.fail(409, 'CF018',
      'Cannot watch inside the database: pg_cron is not installed', '{}',
      'Run: create extension pg_cron, or keep crossfade monitor running.');
  end if;
  if enabled then
    -- Every minute, for a minute: works with every version of pg_cron, which never runs a job
    -- beside itself.
    execute 'select cron.schedule($1, $2, $3)'
    using 'crossfade_monitor', '* * * * *', crossfade_private.watch_command(55);
    perform crossfade_private.audit('monitor.drive', 'crossfade_monitor', null, null, null);
  elsif crossfade_private.unschedule_watch() then
    perform crossfade_private.audit('monitor.undrive', 'crossfade_monitor', null, null, null);
  end if;
  return jsonb_build_object('driven', enabled, 'job', 'crossfade_monitor',
    'schedule', case when enabled then '* * * * *' end,
    'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.drive_monitor is
  'Let a job of pg_cron watch while no monitor is alive, or (enabled: false) no longer: {"driven", "job", "schedule", "flags_version"}. It has R1, R1s, R1k and R12 and goes back by itself. Safe to repeat. CF018 without pg_cron.';

-- views/pair_status.sql ---------------------------------------------------------------------------

-- What an operator sees of the pairs.

create or replace function crossfade_private.pair_json(pair crossfade.pairs)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'name', (pair_json.pair).name, 'v1_table', (pair_json.pair).v1_table,
    'v2_table', (pair_json.pair).v2_table,
    'to_v2', (pair_json.pair).to_v2, 'to_v1', (pair_json.pair).to_v1,
    'key_columns', (pair_json.pair).key_columns,
    'group', (
      select g.name from crossfade_private.pair_groups() g where g.pair = (pair_json.pair).name),
    'stage', (pair_json.pair).stage, 'gate_flag', (pair_json.pair).gate_flag,
    'mirror', m.mirror, 'failure_policy', m.failure_policy,
    'latched_at', (pair_json.pair).latched_at, 'latch_reason', (pair_json.pair).latch_reason,
    'step', (pair_json.pair).step, 'step_started_at', (pair_json.pair).step_started_at,
    'percentage', c.percentage, 'cohort', to_jsonb(c),
    'open_failures', (
      select count(*) from crossfade.mirror_failures f where f.pair = (pair_json.pair).name
        and f.resolved_at is null),
    'open_mismatches', (
      select count(*) from crossfade.mismatches x where x.pair = (pair_json.pair).name
        and x.resolved_at is null),
    'drift_count',
    (select count(*) from crossfade.mirror_failures f where f.pair = (pair_json.pair).name),
    'last_backfill_at', (pair_json.pair).last_backfill_at,
    'last_clean_verify_at', (pair_json.pair).last_clean_verify_at,
    'full_since', (pair_json.pair).full_since,
    'needs_reverse_backfill', (pair_json.pair).needs_reverse_backfill,
    'registered_at', (pair_json.pair).registered_at,
    'runs', (
      select coalesce(jsonb_agg(crossfade_private.run_json(r.id) order by r.id), '[]')
      from crossfade.runs r where r.pair = (pair_json.pair).name
        and r.state in ('running', 'paused')),
    'last_runs', (
      select coalesce(jsonb_agg(crossfade_private.run_json(l.id) order by l.id), '[]')
      from (
        select max(r.id) id from crossfade.runs r
          where r.pair = (pair_json.pair).name group by r.kind
      ) l),
    'next_stage', n.stage,
    'blockers', (
      select coalesce(jsonb_agg(b), '[]')
      from crossfade_private.stage_blockers(pair_json.pair, n.stage) b
      where n.stage is not null))
  from crossfade_private.mirror_state m
  join crossfade.cohorts c on c.pair = m.pair
  cross join lateral (
    select crossfade_private.next_stage((pair_json.pair).stage) stage
  ) n
  where m.pair = (pair_json.pair).name;
$$;

comment on function crossfade_private.pair_json is 'Everything status shows of one pair.';

create or replace function crossfade.pair_status(pair text default null)
returns jsonb
language plpgsql stable
security definer -- one door to what an operator may see of a pair
set search_path = pg_catalog, pg_temp
as $$
begin
  if pair is not null then
    perform crossfade_private.get_pair(pair);
  end if;
  return jsonb_build_object(
    'pairs', (
      select coalesce(jsonb_agg(crossfade_private.pair_json(p) order by p.name), '[]')
      from crossfade.pairs p where pair_status.pair is null or p.name = pair_status.pair),
    'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.pair_status is
  'Stage, cohort, mirror, latch, open failures and mismatches, runs, next_stage and what blocks it, of one pair or of all: {"pairs": [...], "flags_version"}. drift_count counts every write ever recorded as not mirrored. CF001.';

-- views/group_status.sql --------------------------------------------------------------------------

-- What an operator sees of the groups.

create or replace function crossfade.group_status(name text default null)
returns jsonb
language plpgsql stable
security definer -- one door to what an operator may see of a group
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pairs constant text[] := case when group_status.name is not null
    then crossfade_private.find_group(group_status.name) end;
begin
  return jsonb_build_object('groups', (
      select coalesce(jsonb_agg(jsonb_build_object('group', g.name, 'pairs', g.pairs,
        'stage', g.stage, 'next_stage', n.stage, 'blockers', (
          select coalesce(jsonb_agg(b || jsonb_build_object('pair', p.name)
            order by array_position(g.names, p.name)), '[]')
          from crossfade.pairs p cross join lateral crossfade_private.own_blockers(p, n.stage) b
          where n.stage is not null and p.name = any (g.names)
            and crossfade_private.stage_number(p.stage) < crossfade_private.stage_number(n.stage)))
        order by g.name), '[]')
      from (
        select m.name, array_agg(m.pair order by m.place, m.pair collate "C") as names,
          jsonb_agg(jsonb_build_object('pair', p.name, 'stage', p.stage, 'mirror', s.mirror,
            'percentage', trim_scale(c.percentage), 'last_backfill_at', p.last_backfill_at,
            'last_clean_verify_at', p.last_clean_verify_at,
            'needs_reverse_backfill', p.needs_reverse_backfill)
            order by m.place, m.pair collate "C") as pairs,
          (array_agg(p.stage order by crossfade_private.stage_number(p.stage)))[1] as stage
        from crossfade_private.pair_groups() m
        join crossfade.pairs p on p.name = m.pair
        join crossfade_private.mirror_state s on s.pair = m.pair
        join crossfade.cohorts c on c.pair = m.pair
        where v_pairs is null or m.pair = any (v_pairs)
        group by m.name
      ) g
      cross join lateral (
        select crossfade_private.next_stage(g.stage) as stage
      ) n),
    'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.group_status is
  'The groups, or the one of this name or with this pair: {"groups": [{"group", "pairs": [{"pair", "stage", "mirror", "percentage", "last_backfill_at", "last_clean_verify_at", "needs_reverse_backfill"}] parents first, "stage": the lowest of theirs, "next_stage", "blockers": [{"pair", "code", "message", "hint"}] before it}], "flags_version"}. CF001.';

-- views/overview_pair.sql -------------------------------------------------------------------------

-- The part of the overview that is about one pair.

create or replace function crossfade_private.last_verdicts(pair text)
returns setof crossfade.verdicts
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- One index probe a rule, however many verdicts are kept.
  with recursive r (rule) as (
    select min(v.rule) from crossfade.verdicts v where v.pair = last_verdicts.pair
    union all
    select (
      select min(v.rule) from crossfade.verdicts v
      where v.pair = last_verdicts.pair and v.rule > r.rule)
    from r where r.rule is not null
  )
  select l.*
  from r
  cross join lateral (
    select v.* from crossfade.verdicts v
    where v.pair = last_verdicts.pair and v.rule = r.rule
    order by v.id desc limit 1
  ) l;
$$;

comment on function crossfade_private.last_verdicts is 'The newest verdict of each rule on a pair.';

create or replace function crossfade_private.sees_rows()
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select not crossfade_private.is_api_user() or crossfade_private.has_role('operator');
$$;

comment on function crossfade_private.sees_rows is
  'Whether the caller may see keys and values of the user''s tables: everybody but viewers.';

create or replace function crossfade_private.overview_runs(pair text)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_agg(j.run || jsonb_build_object(
    'rows_per_s', round(j.rows_per_s, 1),
    -- Beyond the estimate, or not running: nobody can say.
    'left_s', case when j.run ->> 'state' = 'running' and j.rows_total >= j.rows_done
      then round((j.rows_total - j.rows_done) / nullif(j.rows_per_s, 0), 1) end)
    order by (j.run ->> 'id')::bigint desc), '[]')
  from (
    select l.run, (l.run ->> 'rows_total')::numeric as rows_total,
      (l.run ->> 'rows_done')::numeric as rows_done,
      (l.run ->> 'rows_done')::numeric / nullif(extract(epoch from
        (l.run ->> 'progress_at')::timestamptz - (l.run ->> 'started_at')::timestamptz), 0)
        as rows_per_s
    from (
      select crossfade_private.run_json(max(r.id)) as run from crossfade.runs r
      where r.pair = overview_runs.pair group by r.kind
    ) l
  ) j;
$$;

comment on function crossfade_private.overview_runs is
  'The newest run of each kind with "rows_per_s" (since it began) and "left_s" (null when unknown).';

create or replace function crossfade_private.overview_differences(pair text)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'failures', (
      select coalesce(jsonb_agg(to_jsonb(f) - 'pair' - 'resolved_at' - 'resolution'
        order by f.id desc), '[]')
      from (
        select m.* from crossfade.mirror_failures m
        where m.pair = overview_differences.pair and m.resolved_at is null
          and crossfade_private.sees_rows()
        order by m.id desc limit 20
      ) f),
    'mismatches', (
      select coalesce(jsonb_agg(to_jsonb(x)
        - '{pair,resolved_at,resolution,preserved}'::text[] order by x.id desc), '[]')
      from (
        select m.* from crossfade.mismatches m
        where m.pair = overview_differences.pair and m.resolved_at is null
          and crossfade_private.sees_rows()
        order by m.id desc limit 20
      ) x));
$$;

comment on function crossfade_private.overview_differences is
  'The newest 20 open mirror failures and mismatches of a pair; none for viewers, because they hold keys and values.';

create or replace function crossfade_private.overview_pair(pair crossfade.pairs)
returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pair crossfade.pairs := pair;
  v_name text := v_pair.name;
  v_now timestamptz := date_trunc('minute', now());
  v_status jsonb;
begin
  begin
    v_status := crossfade_private.pair_json(v_pair)
      || jsonb_build_object('rollout', crossfade_private.rollout_json(v_name));
  exception when others then
    -- A table of the pair may be gone. The rest is then needed more than ever.
    v_status := jsonb_build_object('name', v_name, 'stage', v_pair.stage,
      'v1_table', v_pair.v1_table, 'v2_table', v_pair.v2_table, 'problem', sqlerrm);
  end;
  return v_status || jsonb_build_object(
    'progress', crossfade_private.overview_runs(v_name),
    'traffic', crossfade_private.traffic_window(v_name,
      v_now - crossfade_private.setting_number('health_window_s') * interval '1 s',
      v_now + interval '1 minute'),
    'shadow', (
      select jsonb_build_object('compared', coalesce(sum(m.requests), 0),
        'mismatched', coalesce(sum(m.requests) filter (where m.outcome = 'shadow_mismatch'), 0))
      from crossfade.request_minutes m
      where m.pair = v_name and m.minute >= date_trunc('minute', greatest(v_pair.step_started_at,
          now() - interval '1 day'))
        and m.step = v_pair.step and m.outcome in ('shadow_match', 'shadow_mismatch')
        and v_pair.stage = 'shadow'),
    'streak', coalesce((
      select s.errors from crossfade_private.request_streaks s
      where s.pair = v_name and s.step = v_pair.step), 0),
    'baseline', (select to_jsonb(b) - 'pair' from crossfade.baselines b where b.pair = v_name),
    'newest_request_at', (
      select max(m.last_at) from crossfade.request_minutes m
      where m.pair = v_name and m.minute = (
        select max(n.minute) from crossfade.request_minutes n where n.pair = v_name)),
    'verdicts', (
      select coalesce(jsonb_agg(to_jsonb(v) - 'id' - 'pair' order by v.rule), '[]')
      from crossfade_private.last_verdicts(v_name) v))
    || crossfade_private.overview_differences(v_name);
end $$;

comment on function crossfade_private.overview_pair is
  'pair_status of one pair (or "problem" when it fails) and what is measured of it now. Never raises for what a project may do.';

-- views/overview.sql ------------------------------------------------------------------------------

-- One answer with every number that status, dashboard and metrics show, read at one moment.

create or replace function crossfade_private.changed_values(before jsonb, after jsonb)
returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_object_agg(coalesce(b.key, a.key),
    jsonb_build_array(b.value, a.value)), '{}')
  from jsonb_each(case jsonb_typeof(before) when 'object' then before else '{}' end) b
  full join jsonb_each(case jsonb_typeof(after) when 'object' then after else '{}' end) a
    on a.key = b.key
  where a.value is distinct from b.value
    and coalesce(b.key, a.key) not in ('updated_at', 'updated_by', 'engaged_at', 'engaged_by');
$$;

comment on function crossfade_private.changed_values is
  'What differs between two JSON objects: key -> [before, after]; {} when nothing does.';

create or replace function crossfade_private.overview_flags(minutes integer)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_agg(jsonb_build_object(
    'name', f.name, 'description', f.description, 'enabled', f.enabled,
    'percentage', f.percentage, 'killed_by', (
      select coalesce(jsonb_agg(k.name order by k.name), '[]') from crossfade.kill_switches k
      where k.engaged and (k.overrides_all or k.name = any (f.killed_by))),
    'on', coalesce(x.is_on, 0), 'off', coalesce(x.is_off, 0)) order by f.name), '[]')
  from crossfade.flags f
  left join (
    select e.flag, sum(e.exposures) filter (where e.variant = 'on') as is_on,
      sum(e.exposures) filter (where e.variant = 'off') as is_off
    from crossfade.flag_exposures e
    where e.minute > now() - make_interval(mins => overview_flags.minutes)
    group by e.flag
  ) x on x.flag = f.name;
$$;

comment on function crossfade_private.overview_flags is
  'Every flag with how often it was answered on and off in the last minutes; killed_by: engaged switches that turn it off now.';

create or replace function crossfade_private.overview_timeline(events integer)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_agg(jsonb_build_object(
    'id', a.id, 'at', a.at, 'actor', a.actor, 'action', a.action, 'object', a.object,
    'reason', a.reason, 'changes', crossfade_private.changed_values(a.before, a.after))
    order by a.id desc), '[]')
  from (
    select u.* from crossfade.audit u order by u.id desc limit overview_timeline.events
  ) a;
$$;

comment on function crossfade_private.overview_timeline is
  'The newest audit rows: who did what, when and why, and which values changed.';

create or replace function crossfade_private.overview_totals()
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_agg(to_jsonb(t)), '[]')
  from (
    select c.pair, c.backend_version, c.wire_version, c.outcome, sum(c.requests) as requests,
      jsonb_object_agg(c.latency_bucket, c.requests) as histogram
    from (
      select u.pair, u.backend_version, u.wire_version, u.outcome, u.latency_bucket,
        sum(u.requests) as requests
      from (
        select * from crossfade.request_totals
        union all
        select m.pair, m.backend_version, m.wire_version, m.outcome, m.latency_bucket, m.requests
        from crossfade_private.counted_pairs() p
        join crossfade.request_minutes m
          on m.pair = p.p and m.minute >= crossfade_private.rolled_up_to()
      ) u
      group by 1, 2, 3, 4, 5
    ) c
    group by 1, 2, 3, 4
    order by 1, 2, 3, 4
  ) t;
$$;

comment on function crossfade_private.overview_totals is
  'All requests ever counted, by pair, versions and outcome, with "histogram": latency bucket -> requests.';

create or replace function crossfade.overview(
  minutes integer default 60, series text default null, totals boolean default false
)
returns jsonb
language plpgsql stable
security definer -- one door to what an operator may see
set search_path = pg_catalog, pg_temp
as $$
begin
  if minutes is null or minutes not between 1 and 44640 then
    perform crossfade_private.fail(400, 'CF012', format('Invalid minutes %s', minutes),
      jsonb_build_object('minutes', minutes), 'Use 1 to 44640 (31 days).');
  end if;
  if series is not null then
    perform crossfade_private.get_pair(series);
  end if;
  return jsonb_build_object(
    'at', clock_timestamp(), 'flags_version', crossfade.flags_version(), 'minutes', minutes,
    'pairs', (
      select coalesce(jsonb_agg(crossfade_private.overview_pair(p) order by p.name), '[]')
      from crossfade.pairs p),
    'series', case when series is not null
      then crossfade_private.traffic_series(series, minutes) end,
    'kill_switches', (
      select coalesce(jsonb_agg(to_jsonb(k) order by k.name), '[]')
      from crossfade.kill_switches k),
    'flags', crossfade_private.overview_flags(least(minutes, 1440)),
    'settings', (select jsonb_object_agg(t.name, t.value) from crossfade.settings t),
    'throttle', crossfade_private.throttle_reason(),
    'monitor', (select to_jsonb(m) - 'singleton' from crossfade.monitors m),
    'rollbacks', jsonb_build_object(
      'count', (select count(*) from crossfade.rollbacks),
      'newest', (
        select coalesce(jsonb_agg(to_jsonb(r) order by r.id desc), '[]')
        from (
          select b.id, b.at, b.actor, b.level, b.scope, b.reason, b.automatic, b.snapshot
          from crossfade.rollbacks b order by b.id desc limit 20
        ) r)),
    'timeline', crossfade_private.overview_timeline(60),
    'rolled_up_to', nullif(crossfade_private.rolled_up_to(), '-infinity'),
    'totals', case when totals then crossfade_private.overview_totals() end);
end $$;

comment on function crossfade.overview is
  'Everything that status, dashboard and metrics show, at one moment: {"at", "flags_version", "pairs": [pair_status with "traffic" of the last health_window_s, "verdicts", "progress" of the newest runs, "failures", "mismatches", ...], "series": traffic of one pair over the last minutes, null unless asked for, "kill_switches", "flags" with exposures of the last minutes (at most a day), "settings": name -> value, "throttle": why batches wait, "monitor", "rollbacks": {"count", "newest"}, "timeline", "rolled_up_to", "totals": counters since the beginning, null unless asked for}. Reads only. CF001, CF012.';

-- views/rows.sql ----------------------------------------------------------------------------------

-- The rows behind a difference.

create or replace function crossfade.show_rows(pair text, key jsonb)
returns jsonb
language plpgsql stable
security definer -- reads the owner's tables; operators and the secret key only
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pair crossfade.pairs := crossfade_private.get_pair(pair);
  v_pieces jsonb := crossfade_private.run_pieces(v_pair, 'v1_to_v2');
  v_v1 jsonb;
  v_v2 jsonb;
begin
  execute crossfade_private.render(
    'select to_jsonb(cf_t) from {source} cf_t where ({skey_t}) = ({skey_1})', v_pieces)
  into v_v1 using key;
  execute crossfade_private.render(
    'select to_jsonb(cf_t) from {target} cf_t where ({tkey_t}) = ({skey_1})', v_pieces)
  into v_v2 using key;
  return jsonb_build_object('pair', pair, 'key', key, 'v1', v_v1, 'v2', v_v2);
end $$;

comment on function crossfade.show_rows is
  'Both rows of a key (V1 column names): {"pair", "key", "v1": row or null, "v2": row or null}. Holds the user''s data. CF001; 22P02 for a key of another type.';

-- views/doctor.sql --------------------------------------------------------------------------------

-- What crossfade doctor asks the database.

create or replace function crossfade_private.known_checks()
returns table (name text, sha256 text)
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  -- Digests of sql/checks/*.sql, whose texts doctor sends: each check has one home, in a file that
  -- people run with psql, and nothing but these very texts is ever executed.
  values
    ('changed_tables',
      '13097ae72614b183198a4894699d7d0a2548702220a6a5406621f018b2f50a07'),
    ('comments',
      '676902764a609779be509572bf4b92811113b03e986a7a5af3a5728acef4c49c'),
    ('converters',
      '52bd2547ed497a372a390e5e9eab860955b35ca3c919d2963561386daa6c17de'),
    ('definer_functions',
      '660ccec59838a75c5429937cbec2cc7f1eeae579bd0a8646df2e4b48a1bd8987'),
    ('drift',
      'fa886a7f571c755b8ce64713cccb137197f035e99ee90caa0a652219f3dd3079'),
    ('foreign_keys',
      '683d07aca9aea8a24b08d134878fa38d5de1e539a827b83f87d37e4443fb3a52'),
    ('open_failures',
      '8fcc9112a898d3375f5af08d91fe11f1202c3d3f08962219454a7831a8bc005f'),
    ('open_mismatches',
      'd5ee0ec68158cea2f324b8f7f44c84763bcf73cc5809a6c49bd4bf2b37f34fdd'),
    ('outdated_mirrors',
      'b8eb673897f9c0ebb949b97d6ec7dc9021a98043fba42703b883d5ebdc372b6c'),
    ('rights_missing',
      'f96209a9bf65d18b26c3a55cdea77be8396359e9238f0ff1bb8a6b969eca752a'),
    ('rights_too_wide',
      'ac55cc6e4b1348b6d601b16bed546f046381d0024885f0f0b0517e996ec75a62'),
    ('row_level_security',
      '041da40b397993ae4c4a344096c5d15d3adca478a5936e86c57b9d22d605eba6'),
    ('search_path',
      'bed5ae1ebb6d38cc8a90265dfafffa45df5a987c89d895bd48434b73e88f10c9'),
    ('stalled_runs',
      '35d0b55d1a6634a1c09c952d312fda26cb95559243766e4a579d96ff1728783c'),
    ('triggers',
      '72fa097f4d09704235df910cbf28f3bfe8643107f01324e41b90396f825a1c1d'),
    ('v1_dependents',
      '9c93b301f0829a69ffa7571eec9dc71c9254bdec2f249f2ccd5c084036c12f26');
$$;

comment on function crossfade_private.known_checks is
  'The checks that run_check executes: name and SHA-256 of the file sql/checks/NAME.sql.';

create or replace function crossfade.run_check(name text, query text)
returns jsonb
language plpgsql volatile
-- Definer: checks read catalogs and private tables that no API role may read.
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_rows jsonb;
begin
  if not exists (
    select from crossfade_private.known_checks() k
    where k.name = run_check.name
      and k.sha256 = encode(sha256(convert_to(run_check.query, 'UTF8')), 'hex')
  ) then
    perform crossfade_private.fail(
      400, 'CF012', format('Check "%s" is not the one of this schema', run_check.name),
      jsonb_build_object('check', run_check.name),
      'Command and schema are of different versions: apply the migrations of this command.');
  end if;
  execute format('select coalesce(jsonb_agg(to_jsonb(cf_row)), ''[]'') from (%s) cf_row',
    regexp_replace(run_check.query, ';\s*$', E'\n'))
  into v_rows;
  return jsonb_build_object('rows', v_rows, 'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.run_check is
  'Run one of the checks of sql/checks, recognised by its digest: {"rows": [{check_name, object, problem, hint}], "flags_version"}; no row = healthy. Reads only. CF012 for any other text.';

create or replace function crossfade.diagnose()
returns jsonb
language plpgsql stable
-- Not definer: the timeouts and the role are those of the caller.
set search_path = pg_catalog, pg_temp
as $$
begin
  return jsonb_build_object(
    'at', clock_timestamp(),
    'postgres_version', current_setting('server_version_num')::integer,
    'statement_timeout', current_setting('statement_timeout'),
    'lock_timeout', current_setting('lock_timeout'),
    'role', current_setting('role', true),
    'has_cron', exists (select from pg_catalog.pg_extension e where e.extname = 'pg_cron'),
    'has_realtime', to_regprocedure('realtime.send(jsonb,text,text,boolean)') is not null,
    'has_auth', to_regclass('auth.users') is not null,
    'admins', (select count(*) from crossfade.operators o where o.role = 'admin'),
    'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.diagnose is
  'Facts about the database for crossfade doctor: {"at", "postgres_version", "statement_timeout", "lock_timeout", "role", "has_cron", "has_realtime", "has_auth", "admins", "flags_version"}.';

-- people/operator_rows.sql ------------------------------------------------------------------------

-- What happens when a row of an operator changes. The last admin stays.

create or replace function crossfade_private.stamp_operator()
returns trigger
language plpgsql volatile
-- Definer: as stamp_row.
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'INSERT' then
    new.added_by := crossfade_private.actor();
  end if;
  if tg_op = 'INSERT' or new is distinct from old then
    new.updated_at := clock_timestamp();
    new.updated_by := crossfade_private.actor();
  end if;
  return new;
end $$;

comment on function crossfade_private.stamp_operator is
  'BEFORE ROW trigger: who added and who changed an operator, and when.';

create or replace function crossfade_private.on_operator_change()
returns trigger
language plpgsql volatile
-- Definer: as on_control_change.
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_before jsonb := case when tg_op <> 'INSERT' then to_jsonb(old) end;
  v_after jsonb := case when tg_op <> 'DELETE' then to_jsonb(new) end;
  v_row jsonb := coalesce(v_after, v_before);
begin
  if v_before is not distinct from v_after then
    return null;
  end if;
  if v_before ->> 'role' = 'admin' and v_after ->> 'role' is distinct from 'admin'
    and not exists (select from crossfade.operators o where o.role = 'admin') then
    perform crossfade_private.fail(
      409, 'CF022',
      format('Cannot %s "%s": it is the last admin',
        case when v_after is null then 'remove' else 'change the role of' end,
        coalesce(v_row ->> 'email', v_row ->> 'user_id')),
      jsonb_build_object('operator', v_row ->> 'user_id'), 'Make somebody else admin first.');
  end if;
  perform crossfade_private.audit(
    'operator.' || lower(tg_op), coalesce(v_row ->> 'email', v_row ->> 'user_id'), null,
    v_before, v_after);
  return null;
end $$;

comment on function crossfade_private.on_operator_change is
  'AFTER ROW trigger: audit the change, and refuse (CF022) one that leaves no admin where there was one. Changes are serial (before_control_change), so that two admins cannot remove each other.';

create or replace trigger crossfade_before_lock
before insert or update or delete on crossfade.operators
for each statement execute function crossfade_private.before_control_change();

create or replace trigger crossfade_before_stamp
before insert or update on crossfade.operators
for each row execute function crossfade_private.stamp_operator();

create or replace trigger crossfade_after_change
after insert or update or delete on crossfade.operators
for each row execute function crossfade_private.on_operator_change();

-- people/operators.sql ----------------------------------------------------------------------------

-- Adding and removing operators.

create or replace function crossfade_private.check_operator_role(role text)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if role is null or role not in ('viewer', 'operator', 'admin') then
    perform crossfade_private.fail(
      400, 'CF012', format('Unknown role "%s"', role), jsonb_build_object('role', role),
      'Use viewer, operator or admin.');
  end if;
end $$;

comment on function crossfade_private.check_operator_role is 'Refuse an unknown role (CF012).';

create or replace function crossfade_private.find_operator(who text)
returns crossfade.operators
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_row crossfade.operators;
begin
  select o.* into v_row from crossfade.operators o
  where o.user_id = who or lower(o.email) = lower(who)
  order by o.user_id = who desc limit 1;
  if not found then
    perform crossfade_private.fail(
      404, 'CF021', format('No operator "%s"', who), jsonb_build_object('operator', who),
      'See: crossfade operator list');
  end if;
  return v_row;
end $$;

comment on function crossfade_private.find_operator is
  'The operator with this user id or email address, case ignored. CF021.';

create or replace function crossfade_private.find_user(who text)
returns table (user_id text, email text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_confirmed boolean;
begin
  email := null;
  -- By id also when Auth does not know it: a third-party sign-in has no row there.
  user_id := case when position('@' in who) = 0 then who end;
  if to_regclass('auth.users') is not null then
    execute 'select u.id::text, u.email::text, u.email_confirmed_at is not null from auth.users u'
      ' where u.id::text = $1 or lower(u.email) = lower($1)'
      ' order by u.id::text = $1 desc, u.email_confirmed_at is not null desc limit 1'
    into user_id, email, v_confirmed using who;
    user_id := coalesce(user_id, case when position('@' in who) = 0 then who end);
  end if;
  if user_id is null then
    perform crossfade_private.fail(
      404, 'CF021', format('Nobody has signed up as "%s"', who),
      jsonb_build_object('operator', who),
      'Add the user first (Authentication, Users), or give the user id.');
  end if;
  -- Anybody may sign up with an address that is not theirs; only its owner can confirm it.
  if not v_confirmed and position('@' in who) > 0 then
    perform crossfade_private.fail(
      404, 'CF021', format('The address "%s" is not confirmed', who),
      jsonb_build_object('operator', who),
      'Let its owner open the confirmation mail, or give the user id.');
  end if;
  return next;
end $$;

comment on function crossfade_private.find_user is
  'Who is meant by an email address or a user id, one row. CF021 when nobody signed up with the address or it is not confirmed.';

create or replace function crossfade.add_operator(who text, role text, reason text)
returns jsonb
language plpgsql volatile
-- Definer: operators are changed by functions only.
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_user record;
  v_row crossfade.operators;
  v_changed boolean;
begin
  perform crossfade_private.require_reason(reason, format('add operator "%s"', who));
  perform crossfade_private.check_operator_role(add_operator.role);
  select * into v_user from crossfade_private.find_user(who);
  insert into crossfade.operators (user_id, email, role)
  values (v_user.user_id, v_user.email, add_operator.role)
  on conflict on constraint operators_pkey do nothing;
  v_changed := found;
  select o.* into v_row from crossfade.operators o where o.user_id = v_user.user_id;
  if v_row.role <> add_operator.role then
    perform crossfade_private.fail(
      400, 'CF012', format('Cannot add "%s": it is %s already', who, v_row.role),
      jsonb_build_object('operator', who, 'role', v_row.role),
      format('Run: crossfade operator set-role %s %s', who, add_operator.role));
  end if;
  return jsonb_build_object('operator', to_jsonb(v_row), 'changed', v_changed);
exception when unique_violation then
  -- The user was deleted in Auth and has signed up again: a new id with the same address.
  perform crossfade_private.fail(
    400, 'CF012', format('Cannot add "%s": another user id has that address', who),
    jsonb_build_object('operator', who),
    format('Run first: crossfade operator remove %s', who));
  return null;
end $$;

comment on function crossfade.add_operator is
  'Let a user of Supabase Auth operate. who: email address or user id. Returns {"operator": row, "changed": false when it was so already}. CF007 no reason, CF012 unknown role or another role, CF021 unknown user.';

create or replace function crossfade.set_operator_role(who text, role text, reason text)
returns jsonb
language plpgsql volatile
-- Definer: as add_operator.
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_row crossfade.operators;
  v_changed boolean;
begin
  perform crossfade_private.require_reason(reason, format('change the role of "%s"', who));
  perform crossfade_private.check_operator_role(set_operator_role.role);
  v_row := crossfade_private.find_operator(who);
  update crossfade.operators o set role = set_operator_role.role
  where o.user_id = v_row.user_id and o.role <> set_operator_role.role
  returning o.* into v_row;
  v_changed := found;
  if not v_changed then
    v_row := crossfade_private.find_operator(who);
  end if;
  return jsonb_build_object('operator', to_jsonb(v_row), 'changed', v_changed);
end $$;

comment on function crossfade.set_operator_role is
  'Change the role of an operator, from the next request on. Returns {"operator": row, "changed"}. CF007, CF012 unknown role, CF021 no such operator, CF022 the last admin.';

create or replace function crossfade.remove_operator(who text, reason text)
returns jsonb
language plpgsql volatile
-- Definer: as add_operator.
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_row crossfade.operators;
begin
  perform crossfade_private.require_reason(reason, format('remove operator "%s"', who));
  v_row := crossfade_private.find_operator(who);
  delete from crossfade.operators o where o.user_id = v_row.user_id;
  return jsonb_build_object('operator', to_jsonb(v_row));
end $$;

comment on function crossfade.remove_operator is
  'Take all rights from an operator, from the next request on; the user of Supabase Auth stays. CF007, CF021 no such operator, CF022 the last admin.';

-- people/operate.sql ------------------------------------------------------------------------------

-- The one door of operators: which role may call what, and the call.

create or replace function crossfade_private.rights()
returns table (rpc text, role text)
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  -- An RPC that is not named here needs the secret key: a new one is closed until somebody decides.
  select unnest(r.rpcs), r.role
  from (
    values
    ('viewer', '{
      bucket, choose_backend, diagnose, evaluate_flag, explain_flag, flags_version, group_status,
      health_sample, overview, pair_status, pair_writes, read_flags, rollout_status, run_status,
      whoami
    }'::text[]),
    ('operator', '{
      advance_rollout, apply_changes, apply_due_changes, backfill_batch, cancel_changes,
      check_conversion, control_rollout, control_run, drive_monitor, drive_run,
      engage_kill_switch, handover_plan, monitor_beat, plan_pair, plan_repair, rearm,
      record_verdicts, release_kill_switch, repair, restore_snapshot, roll_up_requests, rollback,
      run_check, sample_keys, schedule_changes, set_cohort, set_flag, set_group_stage, set_mirror,
      set_stage, show_rows, start_backfill, start_rollout, start_verify, take_snapshot,
      verify_batch, verify_some
    }'),
    ('admin', '{
      add_operator, carry_batch, carry_plan, describe_table, ignore_dependents, judge_pair,
      refresh_pair, register_pair, remove_operator, set_operator_role, set_setting,
      unregister_pair
    }')
  ) as r (role, rpcs);
$$;

comment on function crossfade_private.rights is
  'The lowest role of an operator that may call an RPC through crossfade.operate. control/OPERATORS.md shows the same to people, and a test compares them.';

create or replace function crossfade_private.operate(rpc text, params jsonb)
returns jsonb
language plpgsql volatile
-- Definer: operators hold no right on any other function. Not in the exposed schema, so that
-- crossfade.operate is the only way in.
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_role text;
  v_columns text;
  v_arguments text;
  v_unknown text;
  v_answer jsonb;
begin
  select r.role into v_role from crossfade_private.rights() r where r.rpc = operate.rpc;
  perform crossfade_private.require_role(coalesce(v_role, 'viewer'), format('call "%s"', rpc));
  if v_role is null or jsonb_typeof(coalesce(params, '{}')) <> 'object' then
    perform crossfade_private.fail(
      case when v_role is null then 403 else 400 end,
      case when v_role is null then 'CF020' else 'CF012' end,
      case when v_role is null then format('Cannot call "%s" as an operator', rpc)
        else format('Cannot call "%s": params must be a JSON object', rpc) end,
      jsonb_build_object('rpc', rpc),
      case when v_role is null then 'It needs the secret key of the project.' else '' end);
  end if;
  -- As the Data API does it: the arguments that are given, by name, converted from JSON.
  select
    string_agg(format('%I %s', a.name, pg_catalog.format_type(a.kind, null)), ', ')
      filter (where params ? a.name),
    string_agg(format('%I => cf_given.%I', a.name, a.name), ', ') filter (where params ? a.name)
  into v_columns, v_arguments
  from pg_catalog.pg_proc p
  cross join lateral unnest(p.proargnames, p.proargtypes::oid[]) as a (name, kind)
  where p.pronamespace = 'crossfade'::regnamespace and p.proname = operate.rpc;
  select string_agg(k.name, ', ') into v_unknown
  from jsonb_object_keys(coalesce(params, '{}')) k (name)
  where not exists (
    select from pg_catalog.pg_proc p
    where p.pronamespace = 'crossfade'::regnamespace and p.proname = operate.rpc
      and k.name = any (p.proargnames));
  if v_unknown is not null then
    perform crossfade_private.fail(
      400, 'CF012', format('Cannot call "%s": it has no parameter %s', rpc, v_unknown),
      jsonb_build_object('rpc', rpc, 'params', params));
  end if;
  execute format('select to_jsonb(crossfade.%I(%s))%s', rpc, coalesce(v_arguments, ''),
    coalesce(' from jsonb_to_record($1) as cf_given (' || v_columns || ')', ''))
  into v_answer using params;
  return v_answer;
end $$;

comment on function crossfade_private.operate is
  'What crossfade.operate does, with the rights of its owner.';

-- Standard SQL body: names are bound here, so that callers need no USAGE on crossfade_private.
create or replace function crossfade.operate(rpc text, params jsonb default '{}')
returns jsonb
language sql volatile
set search_path = pg_catalog, pg_temp
begin atomic
select crossfade_private.operate(rpc, params);
end;

comment on function crossfade.operate is
  'Call an RPC as a signed-in operator: params holds its parameters by name, the answer is its answer. The role it needs stands in crossfade_private.rights(). CF020 no operator, role too low, or an RPC that needs the secret key; CF012 unknown parameter; else what the RPC raises.';

create or replace function crossfade.whoami()
returns jsonb
language plpgsql stable
-- Definer: API roles hold no right on crossfade_private.
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  return jsonb_build_object(
    'actor', crossfade_private.actor(), 'user_id', crossfade_private.actor_id(),
    'role', crossfade_private.operator_role(), 'flags_version', crossfade.flags_version());
end $$;

comment on function crossfade.whoami is
  'Who asks: {"actor", "user_id", "role": viewer, operator or admin, "flags_version"}; user_id and role are null with the secret key.';

-- api.sql -----------------------------------------------------------------------------------------

-- Who may do what: service_role everything of crossfade; an operator reads tables by policies and
-- calls crossfade.operate, which asks rights(). Behind all files that make objects, so that it
-- covers them.

do $$
declare
  v_object record;
begin
  -- By name: PostgreSQL grants execute to public when a function is made, and the default
  -- privileges of a schema cannot take that back.
  for v_object in
    select n.nspname = 'crossfade' as is_rpc,
      format('%I.%I(%s)', n.nspname, p.proname,
        pg_catalog.pg_get_function_identity_arguments(p.oid)) as name
    from pg_catalog.pg_proc p
    join pg_catalog.pg_namespace n on n.oid = p.pronamespace
    where n.nspname in ('crossfade', 'crossfade_private')
    order by p.oid
  loop
    execute format(
      'revoke all on routine %s from public, anon, authenticated, service_role', v_object.name);
    if v_object.is_rpc then
      execute format('grant execute on routine %s to service_role', v_object.name);
    end if;
  end loop;

  for v_object in
    select c.oid, format('%I.%I', n.nspname, c.relname) as name,
      n.nspname = 'crossfade' as is_exposed, c.relrowsecurity
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname in ('crossfade', 'crossfade_private') and c.relkind in ('r', 'p')
    order by c.oid
  loop
    -- Only where it is off: the lock would stop every reader for a moment.
    if not v_object.relrowsecurity then
      execute format('alter table %s enable row level security', v_object.name);
    end if;
    execute format(
      'revoke all on table %s from public, anon, authenticated, service_role', v_object.name);
    if v_object.is_exposed then
      execute format('grant select on table %s to service_role, authenticated', v_object.name);
      -- Only where it is missing: as above.
      if not exists (
        select from pg_catalog.pg_policy p
        where p.polrelid = v_object.oid and p.polname = 'Operators read'
      ) then
        execute format(
          'create policy "Operators read" on %s for select to authenticated'
          ' using ((select crossfade_private.has_role(%L)))',
          v_object.name,
          -- These keep rows of the user's tables, or keys and values of them in messages.
          case when v_object.name in (
            'crossfade.mirror_failures', 'crossfade.mismatches', 'crossfade.rollbacks'
          ) then 'operator' else 'viewer' end);
      end if;
    end if;
  end loop;
end $$;

revoke all on schema crossfade, crossfade_private from public, anon, authenticated, service_role;

grant usage on schema crossfade to service_role, authenticated;

-- Everybody who has signed in may knock; require_role refuses those who are no operators. Neither
-- private function is callable through the Data API, which does not expose their schema.
grant execute on function crossfade.operate(text, jsonb) to authenticated;

-- A user may ask about itself, and policies of tables ask for it.
grant execute on function crossfade.my_backend(text) to authenticated;

grant execute on function crossfade_private.my_backend(text) to authenticated;

grant execute on function crossfade_private.operate(text, jsonb) to authenticated;

grant execute on function crossfade_private.has_role(text) to authenticated;

-- Control rows may be edited by hand; their triggers audit, version and broadcast the edit.
-- Everything else is written by functions only.
grant insert, update, delete
on table crossfade.settings, crossfade.flags, crossfade.cohorts, crossfade.kill_switches
to service_role;

-- What operators hear and send on the control topic. The database and the secret key need none.
do $$
begin
  if to_regclass('realtime.messages') is null or exists (
    select from pg_catalog.pg_policy p
    where p.polrelid = to_regclass('realtime.messages') and p.polname like 'crossfade operators %'
  ) then
    return;
  end if;
  create policy "crossfade operators listen" on realtime.messages
    for select to authenticated
    using (extension = 'broadcast' and (select realtime.topic()) = 'crossfade:flags'
      and (select crossfade_private.has_role('viewer')));
  create policy "crossfade operators hint" on realtime.messages
    for insert to authenticated
    with check (extension = 'broadcast' and (select realtime.topic()) = 'crossfade:flags'
      and (select crossfade_private.has_role('operator')));
exception when insufficient_privilege then
  raise warning 'crossfade: operators cannot listen to realtime: %', sqlerrm;
end $$;

-- A bare PostgREST reads its schema cache again; Supabase's does so by itself.
notify pgrst, 'reload schema';

-- refresh.sql -------------------------------------------------------------------------------------

-- The mirrors of registered pairs, with the texts of this release. Last of all files: from here to
-- the commit nobody writes their tables.

do $$
declare
  v_plans jsonb := crossfade_private.plan_pairs();
begin
  perform crossfade_private.hold_writers();
  -- A release that changes a table of crossfade that is there does so here, each change only where
  -- it is missing. Writers read some of these tables: a change before the writers are held, and a
  -- writer, would wait for each other.
  perform set_config('lock_timeout', '2s', true);
  -- Generated text is parsed when it is made, so that a pair keeps what it has if it is wrong.
  perform set_config('check_function_bodies', 'on', true);
  perform crossfade_private.refresh_pairs(v_plans);
  perform crossfade_private.drop_left_behind();
  update crossfade.control c set release = crossfade_private.generator()
  where c.release <> crossfade_private.generator();
end $$;
