"""What any program needs: files, locks, devices, seeds. Nothing here knows what a VAE is."""
