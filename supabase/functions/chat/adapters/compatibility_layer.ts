/**
 * The parts that let old and new code live beside each other during a migration.
 *
 * @module
 */

export { ContextCompatibility } from "./compat/context_compatibility.ts";
export { DualWriteService } from "./compat/dual_write.ts";
export { MigrationHelper, type RunAction } from "./compat/migration_helper.ts";
export { RollbackManager } from "./compat/rollback_manager.ts";
export { ToolCompatibilityWrapper } from "./compat/tool_compatibility.ts";
