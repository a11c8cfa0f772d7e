"""What every store promises, one plain async function a promise, grouped by what it concerns."""
