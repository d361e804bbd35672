"""maskfold: mask x gender x age classification, from raw photos to a submission one can believe in."""
