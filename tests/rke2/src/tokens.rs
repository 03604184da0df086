//! `rke2 token create|list|delete|generate|rotate`.

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use serde_json::{Value, json};

use crate::client::ApiClient;
use crate::cluster::secret_data;
use crate::join::{self, Supervisor};
use crate::options::Options;
use crate::paths::{self, Paths};
use crate::pki;
use crate::token::{self, Token};

const SECRETS: &str = "/api/v1/namespaces/kube-system/secrets";

/// Kubernetes' own default (kubeadm): a day.
const DEFAULT_TTL: &str = "24h";

/// Runs one of the commands.
///
/// # Errors
/// When the API does not answer, or an argument is wrong.
pub async fn command(paths: &Paths, arguments: &[String]) -> Result<()> {
    let valued = &[
        "ttl",
        "description",
        "groups",
        "usages",
        "output",
        "o",
        "kubeconfig",
        "data-dir",
        "token",
        "t",
        "new-token",
        "server",
        "s",
        "config",
    ];
    let options = Options::parse(arguments, valued, &["debug"])?;
    let Some((operation, rest)) = options.positional.split_first() else {
        bail!("expected a command: create, delete, generate, list or rotate")
    };
    match operation.as_str() {
        "generate" => println!("{}", random_bootstrap()),
        "create" => create(paths, &options, rest.first()).await?,
        "list" => list(&api(paths, &options)?, options.one("output").or_else(|| options.one("o"))).await?,
        "delete" => delete(&api(paths, &options)?, rest).await?,
        "rotate" => rotate(paths, &options).await?,
        other => bail!("No help topic for '{other}'"),
    }
    Ok(())
}

/// The supervisor of this machine, addressed with its own server token unless another is given.
///
/// # Errors
/// When it does not run, or this is no server.
pub async fn local_supervisor(
    paths: &Paths,
    server: Option<&str>,
    given: Option<&str>,
) -> Result<Supervisor> {
    let url = match server {
        Some(url) => url.to_owned(),
        // The kubeconfig names the address that the local server listens on.
        None => {
            let text =
                paths::read(&paths.etc("rke2.yaml"))?.context("rke2.yaml is not there: is this a server?")?;
            let line = text.lines().find_map(|line| line.trim().strip_prefix("server: ")).unwrap_or_default();
            line.replace(":6443", ":9345")
        }
    };
    let own = paths::read(&paths.data("server/token"))?;
    let text = given.map(str::to_owned).or(own).context("server/token is not there: is this a server?")?;
    let token = Token::parse(&text, "server").context("failed to parse token: invalid token format")?;
    Supervisor::trust(&join::address_of(&url)?, &token, None).await
}

fn api(paths: &Paths, options: &Options) -> Result<ApiClient> {
    let path = options.one("kubeconfig").map_or_else(|| paths.etc("rke2.yaml"), Into::into);
    ApiClient::from_kubeconfig(&path)
}

async fn create(paths: &Paths, options: &Options, given: Option<&String>) -> Result<()> {
    let text = given.cloned().unwrap_or_else(random_bootstrap);
    let (id, secret) =
        text.split_once('.').context("the bootstrap token must be of the form \"id.secret\"")?;
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let mut data = json!({
        "token-id": encode(id), "token-secret": encode(secret),
        "usage-bootstrap-authentication": encode("true"), "usage-bootstrap-signing": encode("true"),
        "auth-extra-groups": encode(options.one("groups").unwrap_or("system:bootstrappers:rke2:default-node-token")),
    });
    if let Some(description) = options.one("description") {
        data["description"] = json!(encode(description));
    }
    let ttl: jiff::SignedDuration =
        options.one("ttl").unwrap_or(DEFAULT_TTL).parse().context("invalid --ttl")?;
    if ttl.as_secs() > 0 {
        data["expiration"] =
            json!(encode(&(jiff::Timestamp::now() + ttl).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()));
    }
    let name = format!("bootstrap-token-{id}");
    let secret = json!({"metadata": {"name": name}, "type": "bootstrap.kubernetes.io/token", "data": data});
    if api(paths, options)?.create(SECRETS, &secret).await?.is_none() {
        bail!("a token with id {id:?} already exists");
    }
    let ca = paths::read(&paths.data("server/tls/server-ca.crt"))?.context("server-ca.crt is not there")?;
    println!("K10{}::{text}", token::hash(&ca));
    Ok(())
}

async fn list(api: &ApiClient, output: Option<&str>) -> Result<()> {
    let secrets = api.get(SECRETS).await?.unwrap_or_default();
    let is_token = |secret: &&Value| secret["type"] == "bootstrap.kubernetes.io/token";
    let rows: Vec<Value> =
        secrets["items"].as_array().into_iter().flatten().filter(is_token).map(row).collect();
    if output == Some("json") {
        println!("{}", Value::Array(rows));
        return Ok(());
    }
    println!("{:<26} {:<12} {:<22} {:<26} DESCRIPTION", "TOKEN", "TTL", "EXPIRES", "USAGES");
    for row in rows {
        let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        println!(
            "{:<26} {:<12} {:<22} {:<26} {}",
            text("token"),
            text("ttl"),
            text("expires"),
            text("usages"),
            text("description")
        );
    }
    Ok(())
}

fn row(secret: &Value) -> Value {
    let data = |key: &str| secret_data(secret, key).unwrap_or_default();
    let expires = data("expiration").parse::<jiff::Timestamp>().ok();
    let left = expires.map(|until| until.duration_since(jiff::Timestamp::now()));
    let ttl = left.map_or_else(
        || "<forever>".to_owned(),
        |left| if left.is_negative() { "<invalid>".to_owned() } else { format!("{left:#}") },
    );
    json!({
        "token": format!("{}.{}", data("token-id"), data("token-secret")), "ttl": ttl,
        "expires": expires.map_or_else(|| "<never>".to_owned(), |until| until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
        "usages": "authentication,signing", "description": data("description"),
    })
}

async fn delete(api: &ApiClient, tokens: &[String]) -> Result<()> {
    if tokens.is_empty() {
        bail!("missing argument; token command needs one or more token IDs");
    }
    for token in tokens {
        let id = token.split('.').next().unwrap_or_default();
        if !api.delete(&format!("{SECRETS}/bootstrap-token-{id}"), &json!({})).await? {
            bail!("failed to delete bootstrap token {id:?}: secrets \"bootstrap-token-{id}\" not found");
        }
        println!("bootstrap token {id:?} deleted");
    }
    Ok(())
}

async fn rotate(paths: &Paths, options: &Options) -> Result<()> {
    let old = options.one("token").or_else(|| options.one("t"));
    let server = options.one("server").or_else(|| options.one("s"));
    let supervisor = local_supervisor(paths, server, old).await?;
    let new = options.one("new-token").and_then(|text| Token::parse(text, "server"));
    let password = new.map(|token| token.password().to_owned());
    supervisor.post("/v1-rke2/token", json!({"newToken": password})).await?;
    println!("Token rotated, restart rke2 nodes with new token");
    Ok(())
}

/// `[a-z0-9]{6}.[a-z0-9]{16}`.
fn random_bootstrap() -> String {
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let text: String =
        pki::random(22).iter().map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()])).collect();
    format!("{}.{}", &text[..6], &text[6..])
}
