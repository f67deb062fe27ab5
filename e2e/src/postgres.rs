//! A PostgreSQL of our own: a cluster made by initdb, on a free port of loopback.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use std::os::unix::fs::PermissionsExt;
use tokio::process::Command;

use crate::controlplane::free_port;
use crate::process::{Launch, Service};
use crate::rundir::RunDir;
use crate::tools::postgres::find_or_install;

/// PostgreSQL does not run as root. This user comes with Debian's package.
const USER: &str = "postgres";
const ADMIN: &str = "keyferry_admin";

/// A running server.
pub struct Postgres {
    bin: PathBuf,
    port: u16,
    password: String,
    _service: Service,
    _dir: Arc<RunDir>,
}

impl Postgres {
    /// Makes a cluster, starts its server and waits until it takes connections: about two seconds.
    ///
    /// # Errors
    /// When PostgreSQL is missing or does not come up.
    pub async fn start(dir: Arc<RunDir>) -> Result<Self> {
        let bin = tokio::task::spawn_blocking(find_or_install).await??;
        let user = rustix::process::geteuid().is_root().then_some(USER);
        let port = free_port()?;
        let home = dir.path().join(format!("postgres-{port}"));
        let (data, passwords) = (home.join("data"), home.join("password"));
        std::fs::create_dir(&home)?;
        let password = format!("admin-{port}");
        std::fs::write(&passwords, &password)?;
        if let Some(user) = user {
            // It may pass through our folder, and see nothing of it.
            std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o711))?;
            run(Command::new("chown").args(["-R", user]).arg(&home)).await?;
        }
        let mut initdb = as_user(user, &bin.join("initdb"));
        initdb.args(["--no-sync", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--username", ADMIN, "--pwfile"]);
        run(initdb.arg(&passwords).arg("-D").arg(&data).current_dir("/")).await?;

        let launch = Launch::new(bin.join("postgres")).user(user).orphaned("QUIT").args([
            "-D".to_owned(),
            data.display().to_string(),
            "-p".to_owned(),
            port.to_string(),
        ]);
        let settings = [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "fsync=off",
            "shared_buffers=16MB",
            "log_min_messages=fatal",
        ];
        let launch = launch.args(settings.into_iter().flat_map(|setting| ["-c", setting]));
        let mut service = dir.start(&format!("postgres-{port}"), &launch)?;
        let ask = Ask { bin: bin.clone(), port };
        let up = async || ask.sql(ADMIN, &password, "select 1").await.is_ok();
        service.ready(Duration::from_secs(60), up).await?;
        Ok(Self { bin, port, password, _service: service, _dir: dir })
    }

    /// The port of loopback on which it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Name and password of the administrator.
    #[must_use]
    pub fn admin(&self) -> (&str, &str) {
        (ADMIN, &self.password)
    }

    /// Opens a connection and runs SQL; returns what it says, a line for each row.
    ///
    /// # Errors
    /// When the server refuses the login or the SQL.
    pub async fn sql(&self, user: &str, password: &str, sql: &str) -> Result<String> {
        Ask { bin: self.bin.clone(), port: self.port }.sql(user, password, sql).await
    }

    /// The users that may log in, but for the administrator.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn users(&self) -> Result<Vec<String>> {
        let sql = format!("select rolname from pg_roles where rolcanlogin and rolname <> '{ADMIN}' order by 1");
        Ok(self.sql(ADMIN, &self.password, &sql).await?.lines().map(str::to_owned).collect())
    }
}

struct Ask {
    bin: PathBuf,
    port: u16,
}

impl Ask {
    async fn sql(&self, user: &str, password: &str, sql: &str) -> Result<String> {
        let mut psql = Command::new(self.bin.join("psql"));
        psql.args(["-X", "-q", "-A", "-t", "-w", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-d", "postgres", "-U", user]);
        psql.args(["-p", &self.port.to_string(), "-c", sql]);
        psql.env("PGPASSWORD", password).env("PGCONNECT_TIMEOUT", "10").current_dir("/");
        run(&mut psql).await
    }
}

fn as_user(user: Option<&str>, program: &Path) -> Command {
    let Some(user) = user else { return Command::new(program) };
    let mut command = Command::new("setpriv");
    command.args(["--reuid", user, "--regid", user, "--init-groups", "--"]).arg(program);
    command
}

/// Runs a command and returns what it prints.
async fn run(command: &mut Command) -> Result<String> {
    let program = command.as_std().get_program().display().to_string();
    let output = command.kill_on_drop(true).output().await.with_context(|| format!("cannot start {program}"))?;
    if !output.status.success() {
        bail!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}
