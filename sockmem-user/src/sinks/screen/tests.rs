//! The screen as a person sees it, kept as snapshots, and what keys do.
