# As much of OpenWrt's SDK as a package of Rust needs, for a test: `make -C cross/openwrt TOPDIR=.../tests/sdk BUILD_VARIANT=full
# ARCH=aarch64 OUT=...` prepares, compiles with the cargo of the PATH and installs into OUT, and prints what it was told.

INCLUDE_DIR:=$(TOPDIR)/include
TOOLCHAIN_DIR:=$(OUT)/toolchain
TARGET_CC_NOCACHE:=$(ARCH)-cc
TARGET_CXX_NOCACHE:=$(ARCH)-c++
TARGET_CFLAGS:=-Os
TARGET_CXXFLAGS:=-Os
HOSTCC_NOCACHE:=cc
comma:=,
CP:=cp -fpR
INSTALL_DIR:=install -d -m0755
INSTALL_BIN:=install -m0755
INSTALL_DATA:=install -m0644
INSTALL_CONF:=install -m0600
