"""S2CFormer image compression, deployed: bundles, streams, engines."""
