"""x"""
class Cursor: pass
