CREATE TRIGGER crossfade_mirror_delete AFTER DELETE ON with_from.notes REFERENCING OLD TABLE AS cf_old FOR EACH STATEMENT EXECUTE FUNCTION crossfade_private.mirror_notes_v1_delete();
CREATE TRIGGER crossfade_mirror_insert AFTER INSERT ON with_from.notes REFERENCING NEW TABLE AS cf_new FOR EACH STATEMENT EXECUTE FUNCTION crossfade_private.mirror_notes_v1_insert();
CREATE TRIGGER crossfade_mirror_truncate BEFORE TRUNCATE ON with_from.notes FOR EACH STATEMENT EXECUTE FUNCTION crossfade_private.mirror_notes_v1_truncate();
CREATE TRIGGER crossfade_mirror_update AFTER UPDATE ON with_from.notes REFERENCING OLD TABLE AS cf_old NEW TABLE AS cf_new FOR EACH STATEMENT EXECUTE FUNCTION crossfade_private.mirror_notes_v1_update();
CREATE TRIGGER crossfade_fence BEFORE INSERT OR DELETE OR UPDATE OR TRUNCATE ON with_from.notes_v2 FOR EACH STATEMENT EXECUTE FUNCTION crossfade_private.refuse_fenced_write('notes');
CREATE TRIGGER crossfade_mirror_delete AFTER DELETE ON with_from.notes_v2 REFERENCING OLD TABLE AS cf_old FOR EACH STATEMENT EXECUTE FUNCTION crossfade_private.mirror_notes_v2_delete();
CREATE TRIGGER crossfade_mirror_insert AFTER INSERT ON with_from.notes_v2 REFERENCING NEW TABLE AS cf_new FOR EACH STATEMENT EXECUTE FUNCTION crossfade_private.mirror_notes_v2_insert();
CREATE TRIGGER crossfade_mirror_truncate BEFORE TRUNCATE ON with_from.notes_v2 FOR EACH STATEMENT EXECUTE FUNCTION crossfade_private.mirror_notes_v2_truncate();
CREATE TRIGGER crossfade_mirror_update AFTER UPDATE ON with_from.notes_v2 REFERENCING OLD TABLE AS cf_old NEW TABLE AS cf_new FOR EACH STATEMENT EXECUTE FUNCTION crossfade_private.mirror_notes_v2_update();
