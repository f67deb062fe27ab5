//! A small directory of our own: OpenLDAP's slapd on a free port of loopback, with users that have a password.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::net::TcpStream;

use crate::controlplane::free_port;
use crate::process::{Launch, Service};
use crate::progress;
use crate::rundir::RunDir;
use crate::tools::ldap::OpenLdap;

/// Where its users are.
pub const USERS: &str = "ou=users,dc=keyferry,dc=test";
const BASE: &str = "dc=keyferry,dc=test";

/// A running directory.
pub struct Ldap {
    port: u16,
    _service: Service,
    _dir: Arc<RunDir>,
}

impl Ldap {
    /// Starts one with these users: `(uid, password)`.
    ///
    /// # Errors
    /// When OpenLDAP is missing or does not come up.
    pub async fn start(dir: Arc<RunDir>, users: &[(&str, &str)]) -> Result<Self> {
        let tools = tokio::task::spawn_blocking(OpenLdap::find_or_unpack).await??;
        let port = free_port()?;
        let name = format!("slapd-{port}");
        let data = dir.path().join(&name);
        std::fs::create_dir(&data)?;
        let conf = dir.write(&format!("{name}.conf"), config(&tools, &data.display().to_string()))?;
        let entries = dir.write(&format!("{name}.ldif"), ldif(users))?;
        let libraries = tools.libraries.iter().map(|path| path.display().to_string());
        let env = libraries.map(|path| ("LD_LIBRARY_PATH".to_owned(), path)).collect::<Vec<_>>();

        let mut add = tokio::process::Command::new(tools.slapd.with_file_name("slapadd"));
        add.arg("-f").arg(&conf).arg("-l").arg(&entries).envs(env.iter().cloned()).stdin(Stdio::null());
        let output = add.output().await?;
        if !output.status.success() {
            bail!("slapadd: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        // With a debug level it stays in the foreground.
        let mut launch = Launch::new(&tools.slapd).args(["-d", "0", "-h", &format!("ldap://127.0.0.1:{port}"), "-f"]);
        launch = launch.args([&conf]);
        launch.env.extend(env);
        let mut service = dir.start(&name, &launch)?;
        let up = async || TcpStream::connect(("127.0.0.1", port)).await.is_ok();
        service.ready(Duration::from_secs(30), up).await?;
        progress::note(format!("slapd listens on port {port}"));
        Ok(Self { port, _service: service, _dir: dir })
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("ldap://127.0.0.1:{}", self.port)
    }
}

fn config(tools: &OpenLdap, data: &str) -> String {
    let (schemas, modules) = (tools.schemas.display(), tools.modules.display());
    let schemas: String =
        ["core", "cosine", "inetorgperson"].iter().map(|name| format!("include {schemas}/{name}.schema\n")).collect();
    format!(
        "{schemas}modulepath {modules}\nmoduleload back_mdb\npidfile {data}/slapd.pid\ndatabase mdb\nsuffix \"{BASE}\"\n\
         rootdn \"cn=admin,{BASE}\"\ndirectory {data}\n"
    )
}

fn ldif(users: &[(&str, &str)]) -> String {
    let mut entries = format!(
        "dn: {BASE}\nobjectClass: dcObject\nobjectClass: organization\ndc: keyferry\no: keyferry\n\n\
         dn: {USERS}\nobjectClass: organizationalUnit\nou: users\n"
    );
    for (uid, password) in users {
        entries.push_str(&format!(
            "\ndn: uid={uid},{USERS}\nobjectClass: inetOrgPerson\nuid: {uid}\ncn: {uid}\nsn: {uid}\nuserPassword: {password}\n"
        ));
    }
    entries
}
