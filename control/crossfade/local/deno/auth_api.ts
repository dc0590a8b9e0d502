/** Auth: the library's implementation over the tables it shares with hosted Auth. */
import { App, getAuthSchemaSql } from "@supabase/lite";
import type { GatewayConfig } from "./config.ts";
import type { Databases } from "./database.ts";

/** Create the handler of /auth/v1, and Auth's tables when they are missing. */
export async function createAuthApi(
  config: GatewayConfig,
  { admin }: Databases,
): Promise<(request: Request) => Promise<Response>> {
  const [state] = await admin.driver`select to_regclass('auth.users') is null as missing`;
  if (state?.missing) await admin.driver.unsafe(getAuthSchemaSql());
  const app = new App({
    connection: admin,
    auth: {
      enabled: true,
      jwt_secret: config.jwtSecret,
      publishable_key: config.publishableKey,
      secret_key: config.secretKey,
      enable_signup: true,
      email: { enable_signup: true, enable_confirmations: false },
    },
    options: { server: { admin: false, disableStudio: true } },
  });
  return (request) => app.fetch(request);
}
