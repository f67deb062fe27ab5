//! `keyferry render`: from manifests to the Secrets that they would make, on the operator's own code path and with no cluster.

mod admission;
mod documents;
mod fan_out;
mod generators;
mod kinds;
mod live;
mod make;
mod manifests;
mod needs;
mod offline;
mod print;
mod push;
#[cfg(test)]
mod tests;
mod values;

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};

use self::live::{Live, LiveError};
use self::make::{Maker, Origin, Outcomes};
use self::manifests::{At, Manifests, Unreadable};
use self::needs::Needs;
use self::print::{Format, Printed};
use self::values::{BadValues, Values};
use crate::index::Key;
use crate::plan::Rules;
use crate::plan::template::Delimiters;

/// Prints the Secrets that ExternalSecrets would make, and what PushSecrets would push where. Exits with 0 if all could be rendered, 1 if one could not, 2 if it was
/// called wrongly.
#[derive(Args, Debug)]
pub struct Render {
    /// Files and folders with manifests; - is the standard input
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// Look into folders of folders
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Namespace of the objects that name none
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    namespace: String,
    /// YAML or JSON with what the providers hold: remote keys and their values
    #[arg(long, value_name = "FILE")]
    values: Option<PathBuf>,
    /// What a value that the file does not have comes to
    #[arg(long, value_enum, value_name = "WHAT", default_value = "error")]
    missing: Missing,
    /// Read from the real providers, and from the cluster of KUBECONFIG what manifests name and do not hold. Writes nothing
    #[arg(long, conflicts_with = "values")]
    live: bool,
    /// Print the values, which are masked else
    #[arg(long)]
    show_values: bool,
    /// Form of the output
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "yaml")]
    output: Format,
    /// Tell of failures only
    #[arg(short, long)]
    quiet: bool,
    /// Class of the operator: stores of another one are left alone
    #[arg(long, value_name = "CLASS", default_value = "default")]
    controller_class: String,
    /// Render targets of other kinds than Secret (spec.target.manifest)
    #[arg(long)]
    unsafe_allow_generic_targets: bool,
    /// With --live: URLs in manifests may lead to this machine and its network
    #[arg(long, requires = "live")]
    allow_local_endpoints: bool,
    /// What begins an action in templates
    #[arg(long, value_name = "TEXT", default_value = "{{")]
    template_left_delimiter: String,
    /// What ends an action in templates
    #[arg(long, value_name = "TEXT", default_value = "}}")]
    template_right_delimiter: String,
}

/// What a value that nobody gave comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Missing {
    /// The ExternalSecret fails.
    Error,
    /// A placeholder stands for it, and for stores that are not among the manifests.
    Placeholder,
}

/// Why nothing could be rendered at all.
#[derive(Debug, thiserror::Error)]
pub enum RenderCliError {
    /// A path cannot be read.
    #[error(transparent)]
    Manifests(#[from] Unreadable),
    /// The values cannot be read.
    #[error(transparent)]
    Values(#[from] BadValues),
    /// The cluster cannot be read.
    #[error(transparent)]
    Live(#[from] LiveError),
    /// The output cannot be written, or no runtime be started.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl RenderCliError {
    /// Exit code.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Manifests(_) | Self::Values(_) => 2,
            Self::Live(_) | Self::Output(_) => 1,
        }
    }
}

impl Render {
    /// Renders everything, and tells of each failure in one line; gives the exit code.
    ///
    /// # Errors
    /// Nothing could be rendered at all.
    pub fn run(&self, stream: &mut dyn Read, out: &mut dyn Write, log: &mut dyn Write) -> Result<u8, RenderCliError> {
        let manifests = Manifests::read(&self.paths, self.recursive, stream, &self.namespace)?;
        let values = self.values.as_deref().map(Values::read).transpose()?.unwrap_or_default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let done = runtime.block_on(self.all(manifests, values))?;
        if !self.quiet {
            for note in &done.notes {
                writeln!(log, "note: {}", one_line(note))?;
            }
        }
        for problem in &done.problems {
            writeln!(log, "error: {}", one_line(problem))?;
        }
        out.write_all(print::text(&done.printed, self.output).map_err(io::Error::other)?.as_bytes())?;
        out.flush()?;
        Ok(u8::from(!done.problems.is_empty()))
    }

    async fn all(&self, mut manifests: Manifests, values: Values) -> Result<Done, LiveError> {
        let from = if self.live {
            let live = Live::connect(self.allow_local_endpoints).await?;
            live.complete(&mut manifests).await?;
            Origin::Providers { live: Box::new(live), placeholders: self.missing == Missing::Placeholder }
        } else {
            fan_out::expand(&mut manifests, true);
            Origin::File { values: Arc::new(values), placeholders: self.missing == Missing::Placeholder }
        };
        let mut done = Done {
            notes: std::mem::take(&mut manifests.notes),
            problems: std::mem::take(&mut manifests.problems),
            printed: Vec::new(),
        };
        let rules = self.rules();
        let told = if self.missing == Missing::Placeholder { &mut done.notes } else { &mut done.problems };
        told.extend(make::not_served(&manifests, &rules));
        let mut maker = Maker::new(manifests, rules, from).await;
        let pulled: Vec<_> = maker.manifests.external_secrets.iter().map(|(key, es)| (key.clone(), es.clone())).collect();
        let pushed: Vec<_> = maker.manifests.push_secrets.iter().map(|(key, ps)| (key.clone(), ps.clone())).collect();
        if pulled.is_empty() && pushed.is_empty() && done.problems.is_empty() {
            let nothing = "there is no ExternalSecret and no PushSecret in what was given".to_owned();
            if maker.manifests.is_empty() { done.problems.push(nothing) } else { done.notes.push(nothing) }
        }
        for (key, es) in pulled {
            let outcome = maker.make(&key).await;
            done.note(&maker, self.show_values, ("ExternalSecret", &key, &es.at), outcome, || {
                Needs::of_external_secret(&es.object)
            });
        }
        // what was made may be pushed
        for (key, ps) in pushed {
            let outcome = maker.push(&key).await;
            done.note(&maker, self.show_values, ("PushSecret", &key, &ps.at), outcome, || Needs::of_push_secret(&ps.object));
        }
        done.printed.sort_by_key(Printed::order);
        Ok(done)
    }

    fn rules(&self) -> Rules {
        Rules {
            class: self.controller_class.clone(),
            generic_targets: self.unsafe_allow_generic_targets,
            delimiters: Delimiters {
                left: self.template_left_delimiter.clone(),
                right: self.template_right_delimiter.clone(),
            },
            ..Rules::default()
        }
    }
}

/// A text without line breaks, or what else could change a terminal: names of files and what manifests say may have them.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// What came of everything.
struct Done {
    printed: Vec<Printed>,
    problems: Vec<String>,
    notes: Vec<String>,
}

impl Done {
    /// Notes what came of one object.
    fn note(
        &mut self,
        maker: &Maker,
        show: bool,
        (kind, key, at): (&str, &Key, &At),
        outcome: Outcomes,
        needs: impl Fn() -> Needs,
    ) {
        let label = format!("{kind} {key} ({at})");
        match outcome {
            Outcomes::Made(made) => self.printed.push(Printed::new(&made, show, one_line(&label))),
            Outcomes::Nothing(why) => self.notes.push(format!("{label}: {why}")),
            Outcomes::Failed(why) => {
                self.problems.push(format!("{label}: {why}"));
                if maker.manifests.guesses_labels(&needs()) {
                    let what = "its labels are taken to be none where stores choose namespaces by label";
                    self.notes.push(format!("Namespace {} is not among the manifests: {what}", key.namespace));
                }
            }
        }
    }
}
