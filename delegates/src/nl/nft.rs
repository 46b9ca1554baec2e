//! nf_tables: batches and dumps.
