//! Later.
#[derive(clap::Args)]
pub(crate) struct Options {}
pub(crate) fn test() -> anyhow::Result<()> {
    Ok(())
}
pub(crate) fn ci(_: &Options) -> anyhow::Result<()> {
    Ok(())
}
