"""Predict the classes of image files with one run or several, and write rows."""
