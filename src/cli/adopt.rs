//! `keyferry adopt`: its flags.

use clap::Args;

/// Takes a cluster over in which External Secrets Operator ran, or hands it back. Without --dry-run nothing is deleted and no value,
/// label or annotation of a Secret is changed on the way here: ESO's finalizers go, and its managedFields entries become keyferry's.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct Adopt {
    /// Only tell what would be done, object by object
    #[arg(long)]
    pub dry_run: bool,
    /// Hand the cluster back: Secrets get what ESO needs to go on without writing them anew
    #[arg(long)]
    pub undo: bool,
    /// Leave the Secrets alone: ESO's managedFields entries become keyferry's in the first write that a Secret needs anyway
    #[arg(long, conflicts_with = "undo")]
    pub leave_secrets: bool,
    /// Only this namespace, and nothing cluster-wide; empty: all
    #[arg(long, short, value_name = "NAMESPACE", default_value = "")]
    pub namespace: String,
    /// Go on although the operator that must be stopped seems to run
    #[arg(long)]
    pub force: bool,
}
