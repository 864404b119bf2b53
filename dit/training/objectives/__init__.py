"""What training minimises: the process's loss and the auxiliary losses of a recipe, one file each."""
