//! The kubeconfig files that RKE2 leaves for administrators and for the node itself.

use std::path::Path;

use anyhow::Result;
use base64::Engine as _;

use crate::paths;
use crate::pki::Pair;

/// A name that every server's certificate is for. Local ports that lead to a server are called with it, as a node that
/// shares the loopback interface with others (the knob `bind`) listens on an address of its own.
pub const SERVER_NAME: &str = "localhost";

/// Writes a kubeconfig with everything in it.
///
/// # Errors
/// Whatever the file system says.
pub fn write(path: &Path, mode: u32, server: &str, server_ca: &str, pair: &Pair) -> Result<()> {
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let text = format!(
        "apiVersion: v1\n\
         kind: Config\n\
         clusters:\n\
         - name: default\n\
         \x20 cluster:\n\
         \x20   certificate-authority-data: {}\n\
         \x20   server: {server}\n\
         \x20   tls-server-name: {SERVER_NAME}\n\
         contexts:\n\
         - name: default\n\
         \x20 context:\n\
         \x20   cluster: default\n\
         \x20   user: default\n\
         current-context: default\n\
         preferences: {{}}\n\
         users:\n\
         - name: default\n\
         \x20 user:\n\
         \x20   client-certificate-data: {}\n\
         \x20   client-key-data: {}\n",
        encode(server_ca),
        encode(&pair.certificate),
        encode(&pair.key),
    );
    paths::write(path, mode, &text)
}
